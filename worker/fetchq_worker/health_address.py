"""Where workers answer health checks, for those who answer and those who ask.

Imports little of the standard library and nothing else: `fetchq worker --check` must be cheap.
"""

from __future__ import annotations

import os
import stat
from typing import Final
from zlib import crc32

FOLDER_ENV: Final = "FETCHQ_RUNTIME_DIR"


def runtime_folder() -> str:
    """The folder of the sockets on which the workers of this user answer."""
    return os.environ.get(FOLDER_ENV) or f"{os.environ.get('TMPDIR') or '/tmp'}/fetchq-{os.geteuid()}"  # noqa: S108 - checked by `is_ours`


def is_ours(folder: str) -> bool:
    """Whether no other user can put a socket into the folder; true for one that `FETCHQ_RUNTIME_DIR` names."""
    if os.environ.get(FOLDER_ENV):
        return True
    found = os.lstat(folder)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def tag_of(queue: str, namespace: str) -> str:
    """The part of a socket's name that says which queue the worker has."""
    return f"{crc32(f'{namespace}{queue}'.encode('utf-8', 'surrogateescape')):08x}"


def socket_path(tag: str, pid: int) -> str:
    """The socket of a worker, or of the supervisor of several."""
    return f"{runtime_folder()}/{tag}-{pid}.sock"


def child_path(pid: int) -> str:
    """The socket of a worker process under a supervisor, which asks it."""
    return f"{runtime_folder()}/{pid}.child"


def find_sockets(tag: str) -> list[str]:
    """The sockets of this user's workers and supervisors: of one queue, or of all where `tag` is empty."""
    folder = runtime_folder()
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - pathlib takes 10 ms to load
    except FileNotFoundError:
        return []
    return [f"{folder}/{name}" for name in names if name.endswith(".sock") and name.startswith(tag)]

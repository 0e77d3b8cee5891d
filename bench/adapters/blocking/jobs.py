"""The jobs that every blocking Python peer runs, by requests."""

import os
import time
from typing import Any

import requests
from requests.adapters import HTTPAdapter


def new_session(connections: int) -> requests.Session:
    """A session that keeps a connection for each thread that uses it."""
    session = requests.Session()
    session.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=connections))
    return session


def fetch(session: requests.Session, url: str) -> dict[str, Any]:
    """The response as JSON; the site's bodies are ASCII text."""
    response = session.get(url)
    return {"status": response.status_code, "body": response.text}


def stamp() -> int:
    """The start time of the job, on the one clock of all processes."""
    return time.monotonic_ns()


def hold(path: str, hold_s: float) -> None:
    """Appends a line to `path`, then sleeps: the job whose worker is killed."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{time.monotonic_ns()}\n".encode())
    finally:
        os.close(descriptor)
    time.sleep(hold_s)

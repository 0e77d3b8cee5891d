"""The harness itself: real processes, a real Redis, a real site."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from bench.__main__ import choose
from bench.measures.drain import EMPTY, FETCH_2K, drain
from bench.testbed.failure import BenchFailure
from bench.testbed.peers import ALL, FETCHQ, QUEUES
from bench.testbed.processes import REPO, Child, run
from bench.testbed.redis_server import redis_server
from bench.testbed.site import nginx_site
from bench.testbed.stage import Options, Stage
from tests.support.redis_server import needed_binary

_FETCHQ = next(peer for peer in QUEUES if peer.name == FETCHQ)

_STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child:
    print(child, flush=True)
time.sleep(60)
"""


@pytest.mark.asyncio
async def test_leaving_a_child_ends_it_and_its_children_even_if_they_ignore_sigterm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.testbed.processes.STOP_S", 0.2)
    async with Child("stubborn", [sys.executable, "-c", _STUBBORN], tmp_path, talks=True) as child:
        assert child.process.stdout is not None
        grandchild = int(await child.process.stdout.readline())
        assert _runs(grandchild)
    assert child.process.returncode == -9
    async with asyncio.timeout(10):
        while _runs(grandchild):  # its new parent reaps it at any later time
            await asyncio.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.asyncio
async def test_a_child_that_ended_by_itself_is_reported_with_its_last_words(tmp_path: Path) -> None:
    code = "import sys; sys.exit('no such queue')"
    async with Child("talker", [sys.executable, "-c", code], tmp_path) as child:
        await child.process.wait()
        with pytest.raises(BenchFailure, match="talker ended with status 1: no such queue"):
            child.check()


@pytest.mark.asyncio
async def test_a_command_that_takes_too_long_is_ended_and_reported(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"]
    with pytest.raises(BenchFailure, match=r"sleeper took longer than 0\.5 s"):
        await run("sleeper", command, tmp_path, timeout_s=0.5, env={})


@pytest.mark.asyncio
async def test_a_child_gets_no_more_of_the_environment_than_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FETCHQ_CONCURRENCY", "7")
    printed = await run(
        "env", [sys.executable, "-c", "import os; print(*os.environ)"], tmp_path, timeout_s=30, env={"MINE": "1"}
    )
    assert "MINE" in printed.split()
    assert not [name for name in printed.split() if name.startswith("FETCHQ_")]


def test_a_family_of_peers_is_chosen_by_its_first_name() -> None:
    names = [peer.name for peer in ALL]
    assert choose("PEERS", "fetchq, arq", names) == ["fetchq", "arq", "arq-tuned"]
    assert choose("PEERS", "arq-tuned", names) == ["arq-tuned"]
    assert choose("PEERS", "", names) == names


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="ONLY knows no speed; there are empty, memory"):
        choose("ONLY", "empty,speed", ["empty", "memory"])


@pytest_asyncio.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    needed_binary("redis-server")
    if not os.access("/usr/sbin/nginx", os.X_OK):
        needed_binary("nginx")
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(redis_server(tmp_path))
        site = await stack.enter_async_context(nginx_site(tmp_path))
        yield Stage(tmp_path, server, site, Options(concurrency=10, window_s=5.0), stack)


@pytest.mark.asyncio
async def test_a_drain_counts_jobs_that_redis_shows_as_finished_and_the_site_as_fetched(stage: Stage) -> None:
    empty = await drain(stage, _FETCHQ, EMPTY, 3_000)
    fetched = await drain(stage, _FETCHQ, FETCH_2K, 300)
    assert (empty.finished, fetched.finished) == (3_000, 300)
    assert empty.rate > 0 < fetched.rate
    assert 0 < empty.commands < 50
    assert await stage.site.served() >= 300


@pytest.mark.asyncio
async def test_a_drain_of_a_job_that_no_worker_runs_is_a_failure_with_a_reason(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.testbed.adapter_process.worker", _dead_worker)
    with pytest.raises(BenchFailure, match="worker ended with status 3: no work today"):
        await drain(stage, _FETCHQ, EMPTY, 10)


def _dead_worker(*_: object) -> Child:
    code = "import sys; print('no work today', file=sys.stderr); sys.exit(3)"
    return Child("worker", [sys.executable, "-c", code], Path(_[2]))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["fetch_cost", "empty_cost", "frontier/workers", "adapters/fetchq_peer"])
def test_the_worker_that_is_measured_is_made_where_operators_have_theirs_made(name: str) -> None:
    text = (REPO / "bench" / f"{name}.py").read_text(encoding="utf-8")
    assert "make_worker(worker_settings(" in text
    assert "fetchq_worker.engine" not in text


@pytest.mark.asyncio
async def test_each_host_of_the_site_over_tls_has_a_certificate_of_its_own(tmp_path: Path) -> None:
    if not os.access("/usr/sbin/nginx", os.X_OK):
        needed_binary("nginx")
    hosts = ("127.1.0.1", "127.1.0.2")
    async with nginx_site(tmp_path, tls_hosts=hosts) as site:
        assert site.tls is not None
        context = ssl.create_default_context(cafile=site.tls.ca)
        before = await site.counts()
        named = []
        for host in hosts:
            _, writer = await asyncio.open_connection(host, site.tls.port, ssl=context, server_hostname=host)
            named.append(writer.get_extra_info("peercert")["subjectAltName"])
            writer.close()
            await writer.wait_closed()
        after = await site.counts()
    assert named == [(("IP Address", host),) for host in hosts]
    assert after.connections - before.connections - 1 == len(hosts)

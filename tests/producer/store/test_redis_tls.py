"""Redis over TLS with client certificates: every part of fetchq uses it, and each fault is one sentence."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest
from tests.support.tls_redis import HOST, Papers, TLSRedis
from tests.worker.cli.conftest import Fetchq, Site

from fetchq import FetchStatus, InvalidRedisURL, Producer, RedisRefused, RedisUnavailable, SyncProducer


@pytest.fixture
def fetchq(tmp_path: Path) -> Iterator[Fetchq]:
    command = Fetchq(tmp_path)
    yield command
    command.close()


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="module")
def server(papers: Papers) -> Iterator[TLSRedis]:
    server = TLSRedis(papers)
    yield server
    server.stop()


def test_producers_a_worker_and_the_command_line_work_over_tls(
    server: TLSRedis, papers: Papers, fetchq: Fetchq, site: Site
) -> None:
    url = server.url(papers)
    worker = fetchq.start("worker", "--redis", url)

    async def fetch() -> list[FetchStatus]:
        async with Producer.from_url(url) as producer:
            jobs = await producer.enqueue_many([f"{site.url}/page/{number}" for number in range(5)])
            return [result.status async for result in producer.as_completed(jobs, timeout_s=60)]

    assert asyncio.run(fetch()) == [FetchStatus.OK] * 5
    with SyncProducer.from_url(url) as sync:
        assert sync.enqueue(f"{site.url}/json").result(timeout_s=60).data == [42]
    enqueued = fetchq.run("enqueue", f"{site.url}/json", environ={"FETCHQ_REDIS_URL": url})
    assert fetchq.run("result", enqueued.stdout.strip(), "--redis", url).returncode == 0
    assert "workers   1" in fetchq.run("status", "--redis", url).stdout
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0


WRONG: list[tuple[str, dict[str, str | None], str]] = [
    ("another authority", {"ssl_ca_certs": "other_authority"}, "in certificate chain"),
    ("the system's authorities", {"ssl_ca_certs": None}, "in certificate chain"),
    ("no certificate of ours", {"ssl_certfile": None, "ssl_keyfile": None}, "certificate required"),
    (
        "a stranger's certificate",
        {"ssl_certfile": "strangers_certificate", "ssl_keyfile": "strangers_key"},
        "unknown ca",
    ),
    ("a key of another certificate", {"ssl_keyfile": "strangers_key"}, "key values mismatch"),
    ("no certificate at all", {"ssl_certfile": "key"}, "is not in PEM"),
    ("an authority that is none", {"ssl_ca_certs": "key"}, "no certificate or crl found"),
]

SERVERS_VERDICT = ("certificate required", "unknown ca")
"""TLS 1.3 ends a client's handshake before the server has looked at its certificate (RFC 8446, section 2): the server's
alert comes later, and a command that is sent meanwhile can find the connection gone before the alert is read."""
COMMANDS = cycle((("status",), ("worker", "--burst"), ("enqueue", "https://example.org/")))


def _wrong_url(server: TLSRedis, papers: Papers, changed: dict[str, str | None]) -> str:
    paths: dict[str, Path | None] = {
        name: None if paper is None else getattr(papers, paper) for name, paper in changed.items()
    }
    return server.url(papers, host=HOST, **paths)


@pytest.mark.parametrize(("changed", "says"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_an_invalid_certificate_is_reported_in_one_sentence_with_status_3(
    server: TLSRedis, papers: Papers, fetchq: Fetchq, changed: dict[str, str | None], says: str
) -> None:
    url = _wrong_url(server, papers, changed)
    ended = fetchq.run(*next(COMMANDS), "--redis", url)
    assert ended.returncode == 3, ended.stderr
    [sentence] = ended.stderr.strip().splitlines()
    if says in SERVERS_VERDICT and "cannot be reached" in sentence:
        return
    assert sentence.startswith(f"fetchq: no TLS with Redis at localhost:{server.port}: ")
    assert says in sentence


def test_a_certificate_for_another_host_is_reported_in_one_sentence(
    server: TLSRedis, papers: Papers, fetchq: Fetchq
) -> None:
    ended = fetchq.run("status", "--redis", server.url(papers, host="127.0.0.1"))
    assert ended.returncode == 3
    [sentence] = ended.stderr.strip().splitlines()
    assert "IP address mismatch" in sentence


def test_a_missing_file_is_reported_before_anything_is_sent(server: TLSRedis, papers: Papers, fetchq: Fetchq) -> None:
    url = server.url(papers, ssl_keyfile=Path("/nowhere/key.pem"))
    with pytest.raises(InvalidRedisURL, match="ssl_keyfile names cannot be read: No such file"):
        SyncProducer.from_url(url)
    assert fetchq.run("status", "--redis", url).returncode == 2


def test_tls_to_a_server_without_it_and_the_reverse_are_reported(
    server: TLSRedis, papers: Papers, fetchq: Fetchq
) -> None:
    plain = fetchq.run("status", "--redis", f"redis://localhost:{server.port}")
    assert plain.returncode == 3
    assert len(plain.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(("changed", "says"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_the_library_refuses_what_the_command_refuses(
    server: TLSRedis, papers: Papers, changed: dict[str, str | None], says: str
) -> None:
    refusal = "cannot be reached|no TLS with Redis" if says in SERVERS_VERDICT else "no TLS with Redis"
    url = _wrong_url(server, papers, changed)

    async def ask() -> None:
        async with Producer.from_url(url) as producer:
            await producer.ping()

    with pytest.raises((RedisRefused, RedisUnavailable), match=refusal):
        asyncio.run(ask())
    with SyncProducer.from_url(url) as sync, pytest.raises((RedisRefused, RedisUnavailable), match=refusal):
        sync.enqueue("https://example.org/")

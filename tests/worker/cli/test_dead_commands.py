"""`fetchq dead`, against a real Redis."""

from __future__ import annotations

import json
import pickle
import re
import signal
import time

import msgspec
import pytest
import redis
from tests.support.redis_server import RedisServer

from fetchq import FetchResult, FetchStatus, SyncProducer
from fetchq.contract import wire
from fetchq.store.keys import Keys

from .conftest import PATIENCE_S, Fetchq, Site, at

KEYS = Keys()
REFUSED = "http://127.0.0.1:1999/"


def client(server: RedisServer) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(server.socket))


def store_dead_letters(
    server: RedisServer, count: int, *, payload: bytes | None = None, prefix: str = "job"
) -> list[str]:
    """Writes dead letters as the engine's commit does, all of a fetch that timed out."""
    ids = [f"{prefix}{number}" for number in range(count)]
    job = wire.encode_job("fetch_data", ({"url": "http://a.test/"},), {}, 1) if payload is None else payload
    result = FetchResult(url="http://a.test/", status=FetchStatus.TIMEOUT, error="too slow")
    failure = {"f": "fetch_data", "t": 3, "s": True, "r": result}
    if payload is not None:
        failure |= {"f": "<unknown>", "s": False, "r": {"type": "DeserializationError", "message": "no job"}}
    size = len(job).to_bytes(4, "big")
    dead_letter = b"\x94\xc6" + size + job + b"\xa6string\xce" + size + msgspec.msgpack.encode(failure)
    now_ms = int(time.time() * 1000)
    with client(server) as direct, direct.pipeline(transaction=False) as pipe:
        for job_id in ids:
            pipe.set(KEYS.dead_letter + job_id, dead_letter, ex=3600)
        pipe.zadd(KEYS.dead, {job_id: now_ms - count + place for place, job_id in enumerate(ids)})
        pipe.execute()
    return ids


def test_a_fetch_without_tries_left_is_listed_shown_and_retried_under_its_id(
    fetchq: Fetchq, redis_server: RedisServer, site: Site
) -> None:
    environ = at(redis_server)
    made = fetchq.run("enqueue", REFUSED, "--max-tries", "1", "--tag", "feeds", "-H", "Authorization: Bearer s3cret",
                      "-H", "cookie: a=s3cret", "-H", "X-One: 1", environ=environ)  # fmt: skip
    job_id = made.stdout.strip()
    missing = fetchq.run("enqueue", f"{site.url}/nowhere", environ=environ).stdout.strip()
    assert fetchq.run("worker", "--burst", environ=environ).returncode == 0
    assert json.loads(fetchq.run("status", "--json", environ=environ).stdout)["dead_letters"] == 1

    listed = fetchq.run("dead", "list", environ=environ)
    assert listed.returncode == 0
    assert re.fullmatch(rf"{job_id}  \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\dZ  CONNECT_ERROR  {REFUSED}  .+\n", listed.stdout)
    line = json.loads(fetchq.run("dead", "list", "--json", "--tag", "feeds", environ=environ).stdout)
    assert (line["id"], line["status"], line["host"], line["tags"]) == (job_id, "CONNECT_ERROR", "127.0.0.1", ["feeds"])

    shown = fetchq.run("dead", "show", job_id, environ=environ)
    sheet = json.loads(shown.stdout)
    assert sheet["job"]["a"][0]["url"] == REFUSED
    assert [attempt["status"] for attempt in sheet["attempts"]] == ["CONNECT_ERROR"]
    assert ["X-One", "1"] in sheet["job"]["a"][0]["headers"]
    assert "s3cret" not in shown.stdout
    assert "Authorization" in shown.stdout
    assert fetchq.run("dead", "show", job_id, "--secrets", environ=environ).stdout.count("s3cret") == 2

    retried = fetchq.run("dead", "retry", job_id, environ=environ)
    assert (retried.returncode, retried.stdout) == (0, f"{job_id} retried\n")
    assert fetchq.run("dead", "list", environ=environ).stdout == ""
    assert fetchq.run("worker", "--burst", environ=environ).returncode == 0
    assert fetchq.run("dead", "list", environ=environ).stdout.startswith(f"{job_id}  ")
    assert json.loads(fetchq.run("result", missing, environ=environ).stdout)["http_status"] == 404


@pytest.mark.parametrize(("kind", "count"), [("none", 0), ("retryable", 1), ("all", 2)])
def test_a_setting_selects_which_failures_become_dead_letters(
    fetchq: Fetchq, redis_server: RedisServer, site: Site, kind: str, count: int
) -> None:
    environ = at(redis_server)
    fetchq.run("enqueue", f"{site.url}/nowhere", f"{site.url}/page/1", environ=environ)
    fetchq.run("enqueue", REFUSED, "--max-tries", "1", environ=environ)
    with client(redis_server) as direct:
        assert fetchq.run("worker", "--burst", "--dead-letters", kind, environ=environ).returncode == 0
        assert direct.zcard(KEYS.dead) == count
        assert len(direct.keys(KEYS.dead_letter + "*")) == count


def test_an_invalid_setting_is_one_sentence(fetchq: Fetchq, redis_server: RedisServer) -> None:
    done = fetchq.run("worker", "--burst", "--dead-letters", "some", environ=at(redis_server))
    assert done.returncode == 2
    assert "--dead-letters: takes none, retryable or all, not 'some'" in done.stderr


def test_settings_limit_the_number_and_lifetime_of_dead_letters(fetchq: Fetchq, redis_server: RedisServer) -> None:
    environ = at(redis_server)
    fetchq.run("enqueue", REFUSED, REFUSED, REFUSED, "--max-tries", "1", environ=environ)
    fetchq.run("worker", "--burst", "--dead-letter-max", "2", "--dead-letter-ttl", "100", environ=environ)
    with client(redis_server) as direct:
        assert direct.zcard(KEYS.dead) == 2
        dead_letters = direct.keys(KEYS.dead_letter + "*")
        assert len(dead_letters) == 2
        assert all(0 < direct.ttl(key) <= 100 for key in dead_letters)


def test_many_are_retried_or_purged_by_filters_or_all_at_once(fetchq: Fetchq, redis_server: RedisServer) -> None:
    environ = at(redis_server)
    store_dead_letters(redis_server, 30)
    done = fetchq.run("dead", "retry", "--status", "timeout", "--host", "a.test", "--newer-than", "1h", environ=environ)
    assert (done.returncode, done.stdout) == (0, "30 retried\n")
    store_dead_letters(redis_server, 2500, prefix="more")
    assert fetchq.run("dead", "purge", "--older-than", "1d", environ=environ).stdout == "0 purged\n"
    assert fetchq.run("dead", "purge", "--status", "HTTP_ERROR", environ=environ).stdout == "0 purged\n"
    assert fetchq.run("dead", "purge", "--all", environ=environ).stdout == "2500 purged\n"
    state = json.loads(fetchq.run("status", "--json", environ=environ).stdout)
    with client(redis_server) as direct:  # all of one host: those above its limit wait
        assert direct.zcard(KEYS.pending) == 30
    assert state["dead_letters"] == 0


def test_a_retry_of_a_job_that_is_queued_again_is_reported(fetchq: Fetchq, redis_server: RedisServer) -> None:
    environ = at(redis_server)
    [one, other] = store_dead_letters(redis_server, 2)
    with client(redis_server) as direct:
        direct.zadd(KEYS.pending, {one: 1})
    done = fetchq.run("dead", "retry", one, other, environ=environ)
    assert done.returncode == 1
    assert done.stdout == f"{one} active\n{other} retried\n"
    assert done.stderr == f"fetchq: job {one} is queued or running again; its dead letter stays\n"
    assert fetchq.run("dead", "retry", "--all", environ=environ).stdout == ("0 retried, 1 queued or running again\n")
    counts = json.loads(fetchq.run("dead", "retry", "--all", "--json", environ=environ).stdout)
    assert {outcome: count for outcome, count in counts.items() if count} == {"active": 1}
    purged = fetchq.run("dead", "purge", one, "--json", environ=environ)
    assert json.loads(purged.stdout) == {"id": one, "outcome": "purged"}
    assert json.loads(fetchq.run("dead", "purge", "--all", "--json", environ=environ).stdout) == {"purged": 0}


@pytest.mark.parametrize("command", ["retry", "purge"])
@pytest.mark.parametrize("arguments", [(), ("anid", "--all"), ("--tag", "a", "--all"), ("anid", "--host", "a.test")])
def test_retry_and_purge_take_ids_or_filters_or_all_but_not_two_of_them(
    fetchq: Fetchq, redis_server: RedisServer, command: str, arguments: tuple[str, ...]
) -> None:
    store_dead_letters(redis_server, 1)
    done = fetchq.run("dead", command, *arguments, environ=at(redis_server))
    assert done.returncode == 2
    assert "give job ids, or filters" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--older-than", "soon"), "--older-than: takes a time such as 30s"),
        (("--newer-than", "2 moons"), "--newer-than: takes a time"),
        (("--status", "SAD"), "--status takes one of OK"),
        (("--host", "a/b"), "host: 'a/b' is not the name of a host"),
    ],
)
def test_an_invalid_filter_is_one_sentence(
    fetchq: Fetchq, redis_server: RedisServer, arguments: tuple[str, ...], says: str
) -> None:
    for command in ("list", "retry", "purge"):
        done = fetchq.run("dead", command, *arguments, environ=at(redis_server))
        assert done.returncode == 2
        assert says in done.stderr
        assert done.stderr.count("\n") == 1


def test_an_unknown_dead_letter_is_one_sentence(fetchq: Fetchq, redis_server: RedisServer) -> None:
    for command in ("show", "retry", "purge"):
        done = fetchq.run("dead", command, "unknown", environ=at(redis_server))
        assert done.returncode == 1
        assert "no dead letter under id 'unknown'" in done.stderr


def test_without_redis_it_fails_with_one_sentence(fetchq: Fetchq) -> None:
    for arguments in (("list",), ("show", "a"), ("retry", "--all"), ("purge", "--all")):
        done = fetchq.run("dead", *arguments, "--redis", "unix:///nowhere/redis.sock")
        assert done.returncode == 3
        assert "cannot be reached" in done.stderr


def test_an_invalid_payload_is_shown_safely_and_printed_unchanged(fetchq: Fetchq, redis_server: RedisServer) -> None:
    environ = at(redis_server)
    escape = b"\x1b]0;owned\x07 is no job"
    [hostile] = store_dead_letters(redis_server, 1, payload=escape, prefix="hostile")
    [pickled] = store_dead_letters(
        redis_server, 1, payload=pickle.dumps({"headers": {"Authorization": "s3cret"}}), prefix="pickled"
    )
    shown = fetchq.run("dead", "show", hostile, environ=environ).stdout
    assert "\x1b" not in shown
    sheet = json.loads(shown)
    assert (sheet["status"], sheet["job"], sheet["payload"]["text"]) == ("INVALID_JOB", None, escape.decode())
    assert fetchq.run("dead", "show", hostile, "--payload", environ=environ).stdout.encode() == escape
    hidden = json.loads(fetchq.run("dead", "show", pickled, environ=environ).stdout)
    assert hidden["payload"].keys() == {"size", "hidden", "cut"}
    assert "base64" in json.loads(fetchq.run("dead", "show", pickled, "--secrets", environ=environ).stdout)["payload"]


def test_a_list_shows_ids_whole_the_newest_first_and_no_more_than_asked_for(
    fetchq: Fetchq, redis_server: RedisServer
) -> None:
    long_id = "x" * 300
    ids = store_dead_letters(redis_server, 5, prefix=long_id)
    done = fetchq.run("dead", "list", "--limit", "3", environ=at(redis_server))
    assert [line.split()[0] for line in done.stdout.splitlines()] == ids[:1:-1]


def test_a_list_whose_reader_closes_the_pipe_ends_silently(fetchq: Fetchq, redis_server: RedisServer) -> None:
    store_dead_letters(redis_server, 5000)
    process = fetchq.start("dead", "list", environ=at(redis_server))
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith("job4999 ")
    process.stdout.close()
    assert process.wait(PATIENCE_S) == 128 + signal.SIGPIPE
    assert process.stderr.read() == ""


def test_the_synchronous_producer_has_the_same_methods(redis_server: RedisServer) -> None:
    ids = store_dead_letters(redis_server, 4)
    with SyncProducer.from_url(redis_server.url) as producer:
        assert producer.dead_letters.count() == 4
        assert [
            dead_letter.id for dead_letter in producer.dead_letters.list(newest_first=True, status="TIMEOUT")
        ] == ids[::-1]
        assert producer.dead_letters.get(ids[0]).url == "http://a.test/"
        assert producer.dead_letters.retry_many(ids[:1]) == ["retried"]
        assert producer.dead_letters.purge_many(ids[:2]) == [False, True]
        assert list(producer.dead_letters.retry_all(host="a.test", older_than_s=0)) == [{"retried": 2}]
        store_dead_letters(redis_server, 3, prefix="again")
        assert list(producer.dead_letters.purge_all()) == [3]
        assert producer.dead_letters.count() == 0

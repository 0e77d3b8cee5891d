"""`--namespace` and `FETCHQ_NAMESPACE`: with every command, every key begins with it."""

from __future__ import annotations

import json

import pytest
import redis
from tests.support.redis_server import RedisServer

from fetchq import SyncProducer

from .conftest import Fetchq, Site

NAMESPACE = "{tenant-a}:"
REFUSED = "http://127.0.0.1:1999/"


def environ(server: RedisServer) -> dict[str, str]:
    return {"FETCHQ_REDIS_URL": server.url, "FETCHQ_NAMESPACE": NAMESPACE}


def keys_outside(server: RedisServer) -> list[bytes]:
    with redis.Redis(unix_socket_path=str(server.socket)) as client:
        keys: list[bytes] = client.keys()
    assert keys
    return [key for key in keys if not key.startswith(NAMESPACE.encode())]


def test_a_fetch_passes_through_its_namespace_alone(fetchq: Fetchq, site: Site, redis_server: RedisServer) -> None:
    def run(*arguments: str) -> str:
        done = fetchq.run(*arguments, "--namespace", NAMESPACE, "--redis", redis_server.url)
        assert done.returncode == 0, done.stderr
        return done.stdout

    job_id = run("enqueue", f"{site.url}/json", "--tag", "one").strip()
    assert json.loads(run("status", "--json"))["due"] == 1
    assert json.loads(fetchq.run("status", "--json", "--redis", redis_server.url).stdout)["due"] == 0
    fetchq.run("worker", "--burst", "--redis", redis_server.url)
    assert json.loads(run("status", "--json"))["due"] == 1
    run("worker", "--burst")
    assert json.loads(run("result", job_id))["text"] == "[42]"
    assert fetchq.run("result", job_id, "--redis", redis_server.url).returncode == 1
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as client:
        assert client.exists(f"{NAMESPACE}arq:result:{job_id}")


def test_no_command_writes_a_key_outside(fetchq: Fetchq, site: Site, redis_server: RedisServer) -> None:
    def run(*arguments: str) -> str:
        done = fetchq.run(*arguments, environ=environ(redis_server))
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("limits", "set", "a.test", "--rate", "1/s")
    run("limits", "pause", "b.test")
    assert "a.test" in run("limits", "show")
    run("enqueue", f"{site.url}/page/1", "--robots", "--cache", "--key", "k1")
    run("enqueue", REFUSED, "--max-tries", "2")
    deferred = run("enqueue", f"{site.url}/page/3", "--delay", "600", "--tag", "later").strip()
    run("pause")
    run("resume")
    assert run("cancel", deferred) == f"{deferred} cancelled\n"
    run("worker", "--burst")
    dead = run("dead", "list").split()[0]
    assert run("dead", "retry", dead) == f"{dead} retried\n"
    run("worker", "--burst")
    assert run("dead", "purge", "--all") == "1 purged\n"
    assert run("limits", "clear", "a.test") == ""
    assert keys_outside(redis_server) == []


def test_a_list_is_fetched_in_a_namespace_of_a_shared_redis(
    fetchq: Fetchq, site: Site, redis_server: RedisServer
) -> None:
    done = fetchq.run("fetch", f"{site.url}/page/1", environ=environ(redis_server))
    assert json.loads(done.stdout)["status"] == "OK"
    assert keys_outside(redis_server) == []


def test_the_rights_of_a_namespace_are_of_its_keys(fetchq: Fetchq) -> None:
    rule = fetchq.run("acl", "worker", "--namespace", NAMESPACE).stdout
    assert f"~{NAMESPACE}arq:job:*" in rule
    assert "~arq:" not in rule


SETTINGS_MODULE = """
from fetchq_worker import worker_settings

async def double(ctx, number):
    await ctx["redis"].enqueue_job("triple", number, _job_id="tripled")
    return 2 * number

async def triple(ctx, number):
    return 3 * number

Mine = worker_settings(functions=[double, triple], namespace="mine:")
"""


@pytest.mark.parametrize("arguments", [(), ("--namespace", "flag:")])
def test_a_settings_class_has_its_namespace_and_the_flag_outranks_it(
    fetchq: Fetchq, redis_server: RedisServer, arguments: tuple[str, ...]
) -> None:
    (fetchq.folder / "namespaced.py").write_text(SETTINGS_MODULE)
    namespace = arguments[1] if arguments else "mine:"
    with SyncProducer.from_url(redis_server.url, namespace=namespace) as producer:
        job = producer.enqueue_job("double", 21)
        assert job is not None
        command = ("worker", "--burst", "--settings", "namespaced:Mine", "--redis", redis_server.url, *arguments)
        done = fetchq.run(*command)
        assert done.returncode == 0, done.stderr
        assert job.value(timeout_s=5) == 42
        assert producer.job("tripled").value(timeout_s=5) == 63
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as client:
        keys: list[bytes] = client.keys()
    assert [key for key in keys if not key.startswith(namespace.encode())] == []


def test_a_namespace_that_is_too_long_is_one_sentence(fetchq: Fetchq) -> None:
    done = fetchq.run("status", "--namespace", "x" * 201)
    assert done.returncode == 2
    assert done.stderr.startswith("fetchq: --namespace: takes 0 to 200 characters, not 'xxx")

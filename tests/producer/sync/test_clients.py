"""The connections of a `SyncProducer`: by address, or with the settings of a redis-py client."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.sentinel import Sentinel
from tests.support.redis_server import RedisServer

from fetchq import FetchqError, JobStatus, SyncProducer
from fetchq.store.address import RedisAddress
from fetchq_worker.process.embedded import EmbeddedRedis

URL = "https://example.org/"


def path_of(server: RedisServer) -> str:
    return str(server.url).removeprefix("unix://")


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("kind", [redis.Redis, Redis])
def test_the_settings_of_a_client_of_either_kind_are_copied(redis_server: RedisServer, kind: Any, decode: bool) -> None:
    client = kind(unix_socket_path=path_of(redis_server), db=1, decode_responses=decode, socket_timeout=5)
    with SyncProducer(client) as producer:
        job = producer.enqueue(URL)
        assert job.status() is JobStatus.QUEUED
    with redis.Redis(unix_socket_path=path_of(redis_server), db=1) as admin:
        assert admin.zcard("arq:queue") == 1
    if isinstance(client, redis.Redis):
        assert client.ping()
        client.close()


def test_addresses_and_urls_are_accepted_too(redis_server: RedisServer) -> None:
    for source in (redis_server.url, RedisAddress.parse(redis_server.url)):
        with SyncProducer(source) as producer:
            producer.ping()


def test_an_embedded_server_is_shared_with_other_clients_of_it() -> None:
    embedded = EmbeddedRedis()
    with SyncProducer(embedded.client()) as one, SyncProducer(embedded.client()) as other:
        job = one.enqueue(URL)
        assert other.job(job.id).status() is JobStatus.QUEUED


def test_a_client_that_cannot_be_copied_is_refused_at_the_first_call() -> None:
    master = Sentinel([("127.0.0.1", 1)]).master_for("m")  # type: ignore[no-untyped-call]  # redis-py 5
    with SyncProducer(master) as producer, pytest.raises(FetchqError, match=r"redis\+sentinel://"):
        producer.ping()

    class Own(redis.Connection):
        pass

    blocking = redis.Redis(connection_pool=redis.ConnectionPool(connection_class=Own))
    with SyncProducer(blocking) as producer, pytest.raises(FetchqError, match="Own cannot be copied"):
        producer.ping()


def test_the_limits_of_a_pool_are_not_copied(redis_server: RedisServer) -> None:
    pool = ConnectionPool.from_url(redis_server.url, max_connections=1)
    with SyncProducer(Redis(connection_pool=pool)) as producer:
        assert len(producer.enqueue_many(URL for _ in range(3))) == 3

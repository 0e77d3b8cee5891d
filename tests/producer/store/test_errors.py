"""The errors of Redis, sentinels and TLS, as a caller reads them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from redis import exceptions as redis_py
from redis._parsers.base import BaseParser
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import ResponseError
from tests.support.redis_server import RedisServer, waitaof_binary

from fetchq import FetchqError, Producer, RedisRefused, RedisUnavailable
from fetchq.store.connection import connect
from fetchq.store.errors import RedisFault, fault_of, reason_of, translation

URL = "https://example.org/"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls_port(authority: trustme.CA, tmp_path: Path) -> Iterator[int]:
    """The port of a Redis with TLS that requires no client certificate."""
    ours = authority.issue_cert("localhost")
    ours.private_key_pem.write_to_path(tmp_path / "key.pem")
    ours.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    server = RedisServer(
        *("--tls-port", str(port), "--tls-auth-clients", "no", "--bind", "127.0.0.1"),
        *("--tls-cert-file", str(tmp_path / "cert.pem"), "--tls-key-file", str(tmp_path / "key.pem")),
        *("--tls-ca-cert-file", str(tmp_path / "ca.pem")),
    )
    yield port
    server.remove()


@pytest.mark.asyncio
@pytest.mark.parametrize("userinfo", ["", ":wrong@", "nobody:wrong@"])
async def test_a_wrong_or_missing_password_is_not_reported_as_an_unreachable_redis(
    own_redis_server: RedisServer, userinfo: str
) -> None:
    admin: Redis = connect(own_redis_server.url)
    await admin.config_set("requirepass", "hunter2")
    await admin.aclose()
    async with Producer.from_url(f"unix://{userinfo}{own_redis_server.socket}") as producer:
        with pytest.raises(RedisRefused, match="refused the user name or password") as refusal:
            await producer.enqueue(URL)
        assert "hunter2" not in str(refusal.value)
        assert "wrong" not in str(refusal.value)
        if not userinfo:  # the refusal reaches a waiter after some attempts to subscribe: once is enough
            with pytest.raises(RedisRefused, match="refused the user name or password"):
                await producer.job("a").result(timeout_s=30)


@pytest.mark.asyncio
async def test_a_user_without_the_permission_is_refused(own_redis_server: RedisServer) -> None:
    admin: Redis = connect(own_redis_server.url)
    await admin.acl_setuser("reader", enabled=True, passwords=["+pw"], keys=["*"], commands=["+get"])
    await admin.aclose()
    async with Producer.from_url(f"unix://reader:pw@{own_redis_server.socket}") as producer:
        with pytest.raises(RedisRefused, match="permission"):
            await producer.enqueue(URL)


@pytest.mark.asyncio
@pytest.mark.parametrize("server", ["redis 7.0", "valkey 9"])
@pytest.mark.parametrize(("rule", "keys"), [("-zadd", "*"), ("+@all", "arq:*")])
async def test_a_right_that_is_missing_within_a_script_is_reported_as_such(server: str, rule: str, keys: str) -> None:
    redis_server = RedisServer(binary=waitaof_binary() if server == "valkey 9" else None)
    try:
        async with connect(redis_server.url) as admin:
            await admin.acl_setuser("p", enabled=True, passwords=["+pw"], keys=[keys], commands=["+@all", rule])
        async with Producer.from_url(f"unix://p:pw@{redis_server.socket}") as producer:
            with pytest.raises(RedisRefused, match=r"refused: .*the rights that `fetchq acl` prints$"):
                await producer.enqueue(URL)
    finally:
        redis_server.remove()


@pytest.mark.parametrize(
    ("line", "fault", "error"),
    [
        ("LOADING Redis is loading the dataset in memory", RedisFault.NOT_READY, RedisUnavailable),
        ("BUSY Redis is busy running a script.", RedisFault.NOT_READY, RedisUnavailable),
        ("MASTERDOWN Link with MASTER is down", RedisFault.NOT_READY, RedisUnavailable),
        ("READONLY You can't write against a read only replica.", RedisFault.NOT_READY, RedisUnavailable),
        ("CLUSTERDOWN Hash slot not served", RedisFault.NOT_READY, RedisUnavailable),
        ("TRYAGAIN Multiple keys request during rehashing of slot", RedisFault.NOT_READY, RedisUnavailable),
        ("NOREPLICAS Not enough good replicas to write.", RedisFault.NOT_READY, RedisUnavailable),
        ("MISCONF Errors writing to the AOF file: No space left on device", RedisFault.NOT_READY, RedisUnavailable),
        ("ERR max number of clients reached", RedisFault.LOST, RedisUnavailable),
        ("ERR max number of clients + cluster connections reached", RedisFault.LOST, RedisUnavailable),
        ("NOAUTH Authentication required.", RedisFault.LOGIN, RedisRefused),
        ("WRONGPASS invalid username-password pair or user is disabled.", RedisFault.LOGIN, RedisRefused),
        ("NOPERM this user has no permissions to run the 'get' command", RedisFault.RIGHTS, RedisRefused),
        ("ERR ACL failure in script: No permissions to access a key script: on ...", RedisFault.RIGHTS, RedisRefused),
        ("ERR The user executing the script can't publish to the channel", RedisFault.RIGHTS, RedisRefused),
        ("OOM command not allowed when used memory > 'maxmemory'.", RedisFault.FULL, RedisRefused),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", RedisFault.REFUSED, RedisRefused),
        ("BUSYGROUP Consumer Group name already exists", RedisFault.REFUSED, RedisRefused),
        ("ERR unknown command 'FOO', with args beginning with: ", RedisFault.REFUSED, RedisRefused),
        ("MOVED 3999 127.0.0.1:6381", RedisFault.REFUSED, RedisRefused),
    ],
)  # fmt: skip
def test_an_error_reply_is_classed_by_its_code(line: str, fault: RedisFault, error: type[FetchqError]) -> None:
    problem = BaseParser.parse_error(line)  # type: ignore[no-untyped-call]  # redis-py 5 leaves it untyped
    assert fault_of(problem) is fault
    assert isinstance(translation(Redis(), problem), error)
    refused_handshake = redis_py.ConnectionError("Error while connecting")
    refused_handshake.__cause__ = problem
    assert fault_of(refused_handshake) is fault


@pytest.mark.parametrize(
    "said", ["NOPERM this user's rights", "BUSY Redis is busy", "ERR it has 'quotes' and (parentheses)"]
)
def test_the_error_of_a_pipeline_is_told_without_the_command(said: str) -> None:
    problem, alone = BaseParser.parse_error(said), BaseParser.parse_error(said)  # type: ignore[no-untyped-call]
    Pipeline(ConnectionPool(), {}, False, None).annotate_exception(
        problem, 1, ("SET", "arq:job:x", b"a (payload) 'x'\n")
    )
    assert "payload" in str(problem)
    assert fault_of(problem) is fault_of(alone)
    assert reason_of(problem) == reason_of(alone)
    of_redis_py_8 = ResponseError(f"Command # 1 (SET k v) of pipeline caused error: {alone}")
    assert reason_of(of_redis_py_8).startswith(str(alone)), "its text without the tuple"


@pytest.mark.asyncio
@pytest.mark.parametrize("rule", [["+@all", "-subscribe"], ["+@all", "-mget"], ["+@all", "resetchannels"]])
async def test_a_wait_for_a_result_that_lacks_rights_fails_at_once(
    own_redis_server: RedisServer, rule: list[str]
) -> None:
    async with connect(own_redis_server.url) as admin:
        await admin.execute_command("ACL", "SETUSER", "p", "on", ">pw", "~*", "&*", *rule)
        async with Producer.from_url(f"unix://p:pw@{own_redis_server.socket}") as producer:
            job = await producer.enqueue(URL)
            connections = (await admin.info("stats"))["total_connections_received"]
            with pytest.raises(RedisRefused, match=r"the rights that `fetchq acl` prints"):
                await job.result(timeout_s=60)
        assert (await admin.info("stats"))["total_connections_received"] - connections < 5


@pytest.mark.asyncio
async def test_a_master_that_became_a_replica_is_not_ready_until_it_is_promoted(own_redis_server: RedisServer) -> None:
    async with connect(own_redis_server.url) as admin, Producer.from_url(own_redis_server.url) as producer:
        await producer.enqueue(URL)
        await admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(RedisUnavailable, match=r"is not ready: .*read only replica"):
            await producer.enqueue(URL)
        await admin.execute_command("REPLICAOF", "NO", "ONE")
        await producer.enqueue(URL)
        assert await admin.zcard("arq:queue") == 2


@pytest.mark.asyncio
async def test_a_database_that_does_not_exist_is_refused(redis_server: RedisServer) -> None:
    async with Producer.from_url(f"{redis_server.url}?db=99") as producer:
        for _ in range(3):
            with pytest.raises(RedisRefused, match="DB index is out of range"):
                await producer.enqueue(URL)
    async with Producer.from_url(redis_server.url) as producer:
        assert [counts async for counts in producer.cancel_all()] == [], "nothing went to another database"


@pytest.mark.asyncio
async def test_sentinels_that_are_down_are_named_in_a_sentence_without_client_objects() -> None:
    async with Producer.from_url("redis+sentinel://127.0.0.1:1,127.0.0.1:2/mymaster") as producer:
        with pytest.raises(RedisUnavailable, match="sentinel master mymaster was not found") as problem:
            await producer.enqueue(URL)
        assert "<" not in str(problem.value)


@pytest.mark.asyncio
async def test_a_certificate_of_an_unknown_authority_is_refused_and_a_known_one_trusted(
    tls_port: int, tmp_path: Path
) -> None:
    async with Producer.from_url(f"rediss://localhost:{tls_port}") as stranger:
        with pytest.raises(RedisRefused, match=r"no TLS with Redis at localhost.*certificate.*ssl_ca_certs"):
            await stranger.enqueue(URL)
    async with Producer.from_url(f"rediss://localhost:{tls_port}?ssl_ca_certs={tmp_path / 'ca.pem'}") as producer:
        await producer.enqueue(URL)
    async with Producer.from_url(f"rediss://127.0.0.1:{tls_port}?ssl_ca_certs={tmp_path / 'ca.pem'}") as misnamed:
        with pytest.raises(RedisRefused, match="IP address mismatch"):
            await misnamed.enqueue(URL)


@pytest.mark.asyncio
async def test_a_file_without_a_certificate_is_refused_in_a_sentence(tls_port: int, tmp_path: Path) -> None:
    (tmp_path / "rubbish.pem").write_text("rubbish")
    async with Producer.from_url(f"rediss://localhost:{tls_port}?ssl_ca_certs={tmp_path / 'rubbish.pem'}") as producer:
        with pytest.raises(RedisRefused, match="no TLS with Redis"):
            await producer.enqueue(URL)


def test_a_master_that_was_not_found_is_told_without_client_objects() -> None:
    problem = MasterNotFoundError("No master found for 'm' : <redis.asyncio.client.Redis(<redis...>)> - ...")
    assert reason_of(problem) == "no sentinel that replied has a reachable master"

"""Where Redis is, and how to get there.

    redis://[user:password@]host[:port][/db]          rediss://... the same over TLS, host name verified
    unix:///path/to/socket[?db=0]                     redis+sentinel://h1[:26379],h2/master[/db]

User name and password are percent-decoded. Options after `?`: `db`, `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`
(paths), and `sentinel_username`, `sentinel_password`. `rediss+sentinel://` speaks TLS to sentinels and master.
"""

from __future__ import annotations

from asyncio import StreamWriter
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from redis.asyncio import Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import Connection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from fetchq.errors import InvalidRedisURL

DEFAULT_URL: Final = "redis://localhost:6379"

CONNECT_TIMEOUT_S: Final = 5.0
SOCKET_TIMEOUT_S: Final = 30.0
"""A reply that takes longer means that the connection is gone; a call that blocks on purpose brings its own."""
HEALTH_CHECK_S: Final = 30
"""A connection idle for longer is pinged before use."""

_SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
_OPTIONS: Final = ("db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "sentinel_username", "sentinel_password")

_ENCODE: Final = (
    "; user name and password are percent-encoded: %40 for @, %2F for /, %3A for :, %3F for ?, %23 for #, %25 for %"
)

RedisT = TypeVar("RedisT", bound="Redis")


class RedisAddress(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed address of Redis. Its `repr` and `str` show no password."""

    hosts: tuple[tuple[str, int], ...] = (("localhost", 6379),)
    """The server; or the sentinels, when `master` is set."""
    db: int = 0
    username: str | None = None
    password: str | None = None
    tls: bool = False
    unix_path: str | None = None
    master: str | None = None
    """The name under which the sentinels know the master."""
    sentinel_username: str | None = None
    sentinel_password: str | None = None
    ssl_ca_certs: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """The address in `url`; raises `InvalidRedisURL`, also for a certificate's file that cannot be read."""
        if not isinstance(url, str):
            raise InvalidRedisURL(f"the Redis address is a string, not a {type(url).__name__}")
        try:
            address = _parse(url)
        except InvalidRedisURL as problem:
            raise InvalidRedisURL(f"{problem}{_ENCODE if '@' in url else ''}") from None
        except ValueError as problem:  # urlsplit's, on brackets and ports; it can hold a piece of a password
            what = f"its host is not well formed{_ENCODE}" if "@" in url else str(problem)
            raise InvalidRedisURL(f"the Redis address is not a URL: {what}") from None
        for option in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
            if (path := getattr(address, option)) is not None:
                _check_readable(option, path)
        return address

    def __str__(self) -> str:
        if self.unix_path is not None:
            return f"unix://{self.unix_path}?db={self.db}"
        scheme = ("rediss" if self.tls else "redis") + ("+sentinel" if self.master else "")
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return f"{scheme}://{hosts}/{f'{self.master}/' if self.master else ''}{self.db}"

    def __repr__(self) -> str:
        return f"<RedisAddress {self}>"


class _Mended:
    """What connections of redis-py 5 get wrong."""

    async def on_connect(self) -> None:
        """Closes a connection whose greeting (AUTH, SELECT) failed or was cancelled.

        Some are left open, on a unix socket above all, and the next command would go to database 0.
        """
        try:
            await super().on_connect()  # type: ignore[misc]  # of the class that this is mixed into
        except BaseException:
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            raise

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Says that the connection is gone, where uvloop has closed it and says that it cannot be written to."""
        writer: StreamWriter | None = self._writer  # type: ignore[attr-defined]
        try:
            await super().send_packed_command(command, check_health)  # type: ignore[misc]
        except RuntimeError as problem:
            if writer is not None and not writer.transport.is_closing():
                raise
            raise RedisConnectionError("the connection was closed") from problem


class _TCP(_Mended, Connection):
    pass


class _TLS(_Mended, SSLConnection):
    pass


class _Unix(_Mended, UnixDomainSocketConnection):
    pass


class _MasterTCP(_Mended, SentinelManagedConnection):
    pass


class _MasterTLS(_Mended, SentinelManagedSSLConnection):
    pass


class _MasterPool(SentinelConnectionPool):
    """Closes its connections to the sentinels as well, which redis-py leaves open for the garbage collector."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        try:
            await super().disconnect(inuse_connections)
        finally:
            if inuse_connections:  # else it has a new master, and looks on
                for sentinel in self.sentinel_manager.sentinels:
                    await sentinel.aclose()


def connect(
    address: RedisAddress | str,
    *,
    redis_class: type[RedisT] = Redis,  # type: ignore[assignment]  # a default of a bound type variable
    socket_timeout_s: float = SOCKET_TIMEOUT_S,
    max_connections: int | None = None,
) -> RedisT:
    """A client of `redis_class` with a connection pool of its own; nothing is sent before its first command.

    Timeouts are set on every socket. Commands are not retried here: whoever sends one knows whether it may be repeated.
    """
    if not isinstance(address, RedisAddress):
        address = RedisAddress.parse(address)
    common: dict[str, Any] = {
        "db": address.db,
        "username": address.username,
        "password": address.password,
        "socket_timeout": socket_timeout_s,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "health_check_interval": HEALTH_CHECK_S,
        "retry": Retry(NoBackoff(), 0),
        # redis-py's name and version by CLIENT SETINFO: two more commands a connection, and rights to have for them.
        "lib_name": None,
        "lib_version": None,
    }
    tls: dict[str, Any] = {}
    if address.tls:
        tls = {
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_ca_certs": address.ssl_ca_certs,
            "ssl_certfile": address.ssl_certfile,
            "ssl_keyfile": address.ssl_keyfile,
        }
    if address.master is not None:
        return _connect_by_sentinel(address, redis_class, {**common, "max_connections": max_connections}, tls)
    host, port = address.hosts[0]
    where: dict[str, Any]
    if address.unix_path is not None:
        where = {"connection_class": _Unix, "path": address.unix_path}
    else:
        kind = _TLS if address.tls else _TCP
        where = {"connection_class": kind, "host": host, "port": port, "socket_keepalive": True, **tls}
    pool = ConnectionPool(max_connections=max_connections, **where, **common)
    client = redis_class(connection_pool=pool)
    client.auto_close_connection_pool = True
    return client


def _connect_by_sentinel(
    address: RedisAddress, redis_class: type[RedisT], common: dict[str, Any], tls: dict[str, Any]
) -> RedisT:
    sentinel = Sentinel(  # type: ignore[no-untyped-call]  # redis-py 5 leaves it untyped
        list(address.hosts),
        sentinel_kwargs={
            "username": address.sentinel_username,
            "password": address.sentinel_password,
            "socket_timeout": CONNECT_TIMEOUT_S,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "ssl": address.tls,
            **tls,
        },
    )
    client: RedisT = sentinel.master_for(
        address.master or "",
        redis_class=redis_class,
        connection_pool_class=_MasterPool,
        connection_class=_MasterTLS if address.tls else _MasterTCP,
        socket_keepalive=True,
        **common,
        **tls,
    )
    return client


def _parse(url: str) -> RedisAddress:
    """No sentence that is raised here repeats the address: any part of it may be of a password that is not encoded."""
    parts = urlsplit(url)
    if parts.fragment or ("@" in parts.path and (parts.scheme != "unix" or ":" in parts.netloc)):
        raise InvalidRedisURL("the Redis address holds a # or an @ where none belongs")
    scheme = parts.scheme
    if scheme not in _SCHEMES or "://" not in url:
        raise InvalidRedisURL(f"the Redis address begins with one of {', '.join(s + '://' for s in _SCHEMES)}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = options.keys() - set(_OPTIONS)
    if unknown:
        raise InvalidRedisURL(f"the Redis address has an option that is none of {', '.join(_OPTIONS)}")
    userinfo, _, hosts_text = parts.netloc.rpartition("@")
    username, _, password = userinfo.partition(":")
    given: dict[str, Any] = {name: value for name, value in options.items() if name != "db" and value}
    given["username"] = unquote(username) or None
    given["password"] = unquote(password) or None
    if scheme == "unix":
        if not parts.path or parts.path == "/":
            raise InvalidRedisURL("a unix:// address names the path of the socket, as in unix:///run/redis.sock")
        path = unquote(f"{hosts_text}{parts.path}")  # unix://relative/path is taken as redis-py takes it
        return RedisAddress(unix_path=path, db=_db(options.get("db", "0")), **given)
    given["tls"] = scheme.startswith("rediss")
    segments = [unquote(segment) for segment in parts.path.split("/") if segment]
    if scheme.endswith("+sentinel"):
        if not segments or len(segments) > 2:
            raise InvalidRedisURL("a sentinel address reads redis+sentinel://host1,host2/master/db")
        hosts = tuple(_host(host, 26379) for host in hosts_text.split(","))
        db = options.get("db", segments[1] if len(segments) == 2 else "0")
        return RedisAddress(hosts=hosts, master=segments[0], db=_db(db), **given)
    if len(segments) > 1:
        raise InvalidRedisURL("after the host, a redis:// address holds the number of a database and no more")
    db = options.get("db", segments[0] if segments else "0")
    return RedisAddress(hosts=(_host(hosts_text, 6379),), db=_db(db), **given)


def _host(text: str, default_port: int) -> tuple[str, int]:
    if "," in text:
        raise InvalidRedisURL("several hosts stand only in a redis+sentinel:// address")
    parts = urlsplit(f"//{text}")
    try:
        port = parts.port
    except ValueError:
        raise InvalidRedisURL("the Redis address has a port that is not a number from 0 to 65535") from None
    return parts.hostname or "localhost", default_port if port is None else port


def _db(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise InvalidRedisURL("the number of the Redis database is not a whole number")
    return int(text)


def _check_readable(option: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as problem:
        raise InvalidRedisURL(f"the file that {option} names cannot be read: {problem.strerror}") from problem

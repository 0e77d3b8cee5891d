"""The address of a Redis server, parsed from a URL.

    redis://[user:password@]host[:port][/db]          rediss://... the same over TLS, host name verified
    unix:///path/to/socket[?db=0]                     redis+sentinel://h1[:26379],h2/master[/db]

User name and password are percent-decoded. Options after `?`: `db`, `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`
(paths), and `sentinel_username`, `sentinel_password`. `rediss+sentinel://` speaks TLS to sentinels and master.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import msgspec

from fetchq.errors import InvalidRedisURL

DEFAULT_URL: Final = "redis://localhost:6379"
URL_VARIABLE: Final = "FETCHQ_REDIS_URL"
URL_FILE_VARIABLE: Final = "FETCHQ_REDIS_URL_FILE"
PASSWORD_FILE_VARIABLE: Final = "FETCHQ_REDIS_PASSWORD_FILE"  # noqa: S105 - the name of a variable
VARIABLES: Final = (URL_VARIABLE, URL_FILE_VARIABLE, PASSWORD_FILE_VARIABLE)
_MAX_FILE_BYTES: Final = 65_536

_SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
_OPTIONS: Final = ("db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "sentinel_username", "sentinel_password")

_ENCODE: Final = (
    "; user name and password are percent-encoded: %40 for @, %2F for /, %3A for :, %3F for ?, %23 for #, %25 for %"
)


class RedisAddress(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed address of Redis. Its `repr` and `str` show no password."""

    hosts: tuple[tuple[str, int], ...] = (("localhost", 6379),)
    """The server; with `master` set, the sentinels."""
    db: int = 0
    username: str | None = None
    password: str | None = None
    tls: bool = False
    unix_path: str | None = None
    master: str | None = None
    """The name of the master as the sentinels know it."""
    sentinel_username: str | None = None
    sentinel_password: str | None = None
    ssl_ca_certs: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """Raises `InvalidRedisURL`, also where a certificate file cannot be read."""
        if not isinstance(url, str):
            raise InvalidRedisURL(f"the Redis address is a string, not a {type(url).__name__}")
        try:
            address = _parse(url)
        except InvalidRedisURL as problem:
            raise InvalidRedisURL(f"{problem}{_ENCODE if '@' in url else ''}") from None
        except ValueError as problem:  # from urlsplit, for brackets and ports; its text can contain part of a password
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


class UnusableFile(InvalidRedisURL):
    """The file that a variable names has no address or password. The sentence begins with the variable."""


class UrlInEnvironment(msgspec.Struct, frozen=True):
    """The address of Redis as the environment has it, with secrets in files where an operator keeps them there.

    `FETCHQ_REDIS_URL` is the address, or `FETCHQ_REDIS_URL_FILE` names a file that contains it. Where it has no
    password, `FETCHQ_REDIS_PASSWORD_FILE` names a file that contains the password, not percent-encoded. One line break
    at the end of a file is no part of it. An empty variable counts as absent.
    """

    url: str = ""
    url_file: str = ""
    password_file: str = ""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> UrlInEnvironment:
        return cls(*(environ.get(variable, "").strip() for variable in VARIABLES))

    @property
    def origin(self) -> str:
        """The variable that has the address; empty if none of the three is set."""
        if self.url_file:
            return URL_FILE_VARIABLE
        if self.url:
            return URL_VARIABLE
        return PASSWORD_FILE_VARIABLE if self.password_file else ""

    def read(self) -> str:
        """The URL, with the password. Raises `InvalidRedisURL` for a file that cannot be used, and for two answers."""
        if self.url and self.url_file:
            raise InvalidRedisURL(f"{URL_VARIABLE} is set too; give one of them")
        url = _line_of(self.url_file, URL_FILE_VARIABLE) if self.url_file else self.url or DEFAULT_URL
        if not self.password_file:
            return url
        password = _line_of(self.password_file, PASSWORD_FILE_VARIABLE)
        if RedisAddress.parse(url).password is not None:
            raise InvalidRedisURL(f"the Redis address has a password, and {PASSWORD_FILE_VARIABLE} is set; give one")
        parts = urlsplit(url)
        userinfo, _, hosts = parts.netloc.rpartition("@")
        username = userinfo.partition(":")[0]
        return parts._replace(netloc=f"{username}:{quote(password, safe='')}@{hosts}").geturl()


def _line_of(path: str, variable: str) -> str:
    """The only line of a file. Its content is in no error."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(_MAX_FILE_BYTES + 1).decode()
    except OSError as problem:
        raise UnusableFile(f"{variable}: {path} cannot be read: {problem.strerror}") from problem
    except UnicodeError:
        raise UnusableFile(f"{variable}: {path} is not UTF-8") from None
    line = text.removesuffix("\n").removesuffix("\r")
    if not line or not line.isprintable() or len(text) > _MAX_FILE_BYTES:
        raise UnusableFile(f"{variable}: {path} does not contain exactly one line of text")
    return line


def _parse(url: str) -> RedisAddress:
    """Error messages never repeat the URL: any part of it can belong to a password that is not percent-encoded."""
    parts = urlsplit(url)
    if parts.fragment or ("@" in parts.path and (parts.scheme != "unix" or ":" in parts.netloc)):
        raise InvalidRedisURL("the Redis address has a # or an @ in the wrong place")
    scheme = parts.scheme
    if scheme not in _SCHEMES or "://" not in url:
        raise InvalidRedisURL(f"the Redis address begins with one of {', '.join(s + '://' for s in _SCHEMES)}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = options.keys() - set(_OPTIONS)
    if unknown:
        raise InvalidRedisURL(f"the Redis address has an unknown option; there are {', '.join(_OPTIONS)}")
    userinfo, _, hosts_text = parts.netloc.rpartition("@")
    username, _, password = userinfo.partition(":")
    given: dict[str, Any] = {name: value for name, value in options.items() if name != "db" and value}
    given["username"] = unquote(username) or None
    given["password"] = unquote(password) or None
    if scheme == "unix":
        if not parts.path or parts.path == "/":
            raise InvalidRedisURL("a unix:// address takes the path of the socket, such as unix:///run/redis.sock")
        path = unquote(f"{hosts_text}{parts.path}")  # unix://relative/path is taken as redis-py takes it
        return RedisAddress(unix_path=path, db=_db(options.get("db", "0")), **given)
    given["tls"] = scheme.startswith("rediss")
    segments = [unquote(segment) for segment in parts.path.split("/") if segment]
    if scheme.endswith("+sentinel"):
        if not segments or len(segments) > 2:
            raise InvalidRedisURL("a sentinel address has the form redis+sentinel://host1,host2/master/db")
        hosts = tuple(_host(host, 26379) for host in hosts_text.split(","))
        db = options.get("db", segments[1] if len(segments) == 2 else "0")
        return RedisAddress(hosts=hosts, master=segments[0], db=_db(db), **given)
    if len(segments) > 1:
        raise InvalidRedisURL("after the host, a redis:// address takes only a database number")
    db = options.get("db", segments[0] if segments else "0")
    return RedisAddress(hosts=(_host(hosts_text, 6379),), db=_db(db), **given)


def _host(text: str, default_port: int) -> tuple[str, int]:
    if "," in text:
        raise InvalidRedisURL("several hosts are allowed only in a redis+sentinel:// address")
    parts = urlsplit(f"//{text}")
    try:
        port = parts.port
    except ValueError:
        raise InvalidRedisURL("the Redis address has a port that is not a number from 0 to 65535") from None
    return parts.hostname or "localhost", default_port if port is None else port


def _db(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise InvalidRedisURL("the Redis database number is not a whole number")
    return int(text)


def _check_readable(option: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as problem:
        raise InvalidRedisURL(f"the file that {option} names cannot be read: {problem.strerror}") from problem

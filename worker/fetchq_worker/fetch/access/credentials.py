"""The worker's credentials, client certificates and proxies, by the names that requests use.

They are read once, from a TOML file that only its owner may read. A request contains a name; the secret is sent to the
origins it is bound to, and appears nowhere else: not in Redis, a result, a log or a `repr`.
"""

from __future__ import annotations

import os
import tomllib
from base64 import b64encode
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec.structs import force_setattr

from fetchq import InvalidRequest
from fetchq.command.settings import InvalidSetting
from fetchq.contract.urls import normalise_url, origin_of
from fetchq.contract.validation import headers_of

MAX_FILE_BYTES: Final = 1 << 20
_SETTING: Final = "--credentials-file (FETCHQ_CREDENTIALS_FILE)"


class Secret:
    """A string whose `repr` hides it; `reveal` returns it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "<Secret>"

    def reveal(self) -> str:
        return self._text


class _Bound(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    origins: tuple[str, ...]
    """Scheme, host and port of the servers that it is sent to, such as `https://api.example.org`."""

    def __post_init__(self) -> None:
        if not self.origins:
            raise ValueError("origins is empty; it lists the servers that the secret is sent to")
        try:
            force_setattr(self, "origins", tuple(origin_of(normalise_url(origin)) for origin in self.origins))
        except InvalidRequest as problem:
            raise ValueError(f"origins: {problem.problem}") from problem


class Bearer(_Bound, frozen=True, tag="bearer"):
    """`Authorization: Bearer` (RFC 6750, section 2.1)."""

    token: Secret

    def header(self) -> tuple[str, str]:
        return "Authorization", f"Bearer {self.token.reveal()}"


class Basic(_Bound, frozen=True, tag="basic"):
    """`Authorization: Basic`, in UTF-8 (RFC 7617)."""

    username: str
    password: Secret

    def header(self) -> tuple[str, str]:
        return "Authorization", basic(self.username, self.password.reveal())


class Header(_Bound, frozen=True, tag="header"):
    """A header of any name, such as `X-Api-Key`."""

    name: str
    value: Secret

    def header(self) -> tuple[str, str]:
        return self.name, self.value.reveal()


class Certificate(_Bound, frozen=True, tag="certificate"):
    """A client certificate, in PEM files; paths are relative to the credentials file."""

    certificate: str
    key: str | None = None
    """None: the key is in the file of the certificate."""
    password: Secret | None = None

    def header(self) -> None:
        """None: it is presented in the handshake, not in a header."""


Credential = Bearer | Basic | Header | Certificate


class Proxy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An HTTP proxy (RFC 9110, section 3.7), reached over TLS if its URL is https."""

    url: str
    username: str | None = None
    password: Secret | None = None

    def __post_init__(self) -> None:
        try:
            url = normalise_url(self.url)
        except InvalidRequest as problem:
            raise ValueError(
                "url takes http:// or https://, host and port; username and password have their own fields"
            ) from problem
        force_setattr(self, "url", f"{origin_of(url)}/")

    def authorization(self) -> str | None:
        if self.username is None:
            return None
        return basic(self.username, "" if self.password is None else self.password.reveal())


class Credentials(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The contents of the file, by name."""

    credentials: dict[str, Credential] = {}
    proxies: dict[str, Proxy] = {}

    def __repr__(self) -> str:
        return f"<Credentials {sorted(self.credentials)} proxies={sorted(self.proxies)}>"


def basic(username: str, password: str) -> str:
    """The value of an Authorization or Proxy-Authorization header (RFC 7617)."""
    return f"Basic {b64encode(f'{username}:{password}'.encode()).decode()}"


def read_credentials(path: Path) -> Credentials:
    """The contents of the file; raises `InvalidSetting`, whose message contains no secret."""
    try:
        values = tomllib.loads(_read(path).decode("utf-8"))
    except OSError as problem:
        raise InvalidSetting(f"{_SETTING}: cannot read {path}: {problem.strerror}") from problem
    except tomllib.TOMLDecodeError:
        raise InvalidSetting(f"{_SETTING}: {path} is not TOML") from None  # the cause may quote a secret
    except UnicodeDecodeError:
        raise InvalidSetting(f"{_SETTING}: {path} is not UTF-8") from None
    try:
        held = msgspec.convert(values, Credentials, dec_hook=_secret)
    except msgspec.ValidationError as problem:
        raise InvalidSetting(f"{_SETTING}: {problem}") from None
    for name, credential in held.credentials.items():
        try:
            headers_of([pair] if (pair := credential.header()) is not None else [])
        except InvalidRequest:
            raise InvalidSetting(f"{_SETTING}: {name} does not make a valid header") from None
    folder = path.resolve().parent
    absolute = {
        name: _located(credential, folder) if isinstance(credential, Certificate) else credential
        for name, credential in held.credentials.items()
    }
    return Credentials(credentials=absolute, proxies=held.proxies)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077:
            raise InvalidSetting(f"{_SETTING}: {path} can be read by others than its owner; run chmod 600 {path}")
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise InvalidSetting(f"{_SETTING}: {path} is larger than {MAX_FILE_BYTES} bytes")
    return data


def _secret(kind: type, value: Any) -> Any:
    if kind is not Secret:
        raise NotImplementedError
    if not isinstance(value, str):
        raise TypeError("takes a string")
    return Secret(value)


def _located(credential: Certificate, folder: Path) -> Certificate:
    key = None if credential.key is None else str(folder / credential.key)
    return msgspec.structs.replace(credential, certificate=str(folder / credential.certificate), key=key)

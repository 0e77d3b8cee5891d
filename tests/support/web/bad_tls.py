"""Servers with untrusted TLS, each for one reason. The certificates are made by trustme."""

from __future__ import annotations

import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Final

import trustme

ServerContext = Callable[[trustme.CA], ssl.SSLContext]

HOST: Final = "localhost"


def _new_context() -> ssl.SSLContext:
    return ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)


def _serving(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = _new_context()
    certificate.configure_cert(context)
    return context


def good(authority: trustme.CA) -> ssl.SSLContext:
    return _serving(authority.issue_cert(HOST))


def _expired(authority: trustme.CA) -> ssl.SSLContext:
    return _serving(authority.issue_cert(HOST, not_after=datetime.now(UTC) - timedelta(days=1)))


def _not_valid_yet(authority: trustme.CA) -> ssl.SSLContext:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    return _serving(authority.issue_cert(HOST, not_before=tomorrow, not_after=tomorrow + timedelta(days=9)))


def _wrong_name(authority: trustme.CA) -> ssl.SSLContext:
    return _serving(authority.issue_cert("example.org"))


def _wildcard_of_another(authority: trustme.CA) -> ssl.SSLContext:
    return _serving(authority.issue_cert("*.localhost"))


def _unknown_authority(_: trustme.CA) -> ssl.SSLContext:
    return good(trustme.CA())


def _self_signed(_: trustme.CA) -> ssl.SSLContext:
    itself = trustme.CA()
    context = _new_context()
    with trustme.Blob(itself.private_key_pem.bytes() + itself.cert_pem.bytes()).tempfile() as path:
        context.load_cert_chain(path)
    return context


def _chain_without_its_middle(authority: trustme.CA) -> ssl.SSLContext:
    leaf = authority.create_child_ca().issue_cert(HOST)
    alone = trustme.Blob(leaf.private_key_pem.bytes() + leaf.cert_chain_pems[0].bytes())
    context = _new_context()
    with alone.tempfile() as path:
        context.load_cert_chain(path)
    return context


@contextmanager
def old_server(authority: trustme.CA, version: ssl.TLSVersion) -> Iterator[int]:
    """The port of a server that accepts only this version. It is a blocking server in a thread: asyncio's closes the
    connection without the alert that other servers send."""
    context = good(authority)
    with warnings.catch_warnings():  # these versions are deprecated in Python
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")

    def refuse_one() -> None:
        connection, _ = listener.accept()
        connection.settimeout(10)  # the client cannot close its connection while `join` keeps its event loop waiting
        with connection, suppress(OSError):
            context.wrap_socket(connection, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        thread = threading.Thread(target=refuse_one)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


OLD_VERSIONS: Final = {"TLS 1.0": ssl.TLSVersion.TLSv1, "TLS 1.1": ssl.TLSVersion.TLSv1_1}

BAD_TLS: Final[dict[str, ServerContext]] = {
    "expired": _expired,
    "not valid yet": _not_valid_yet,
    "for another name": _wrong_name,
    "for names below": _wildcard_of_another,
    "self-signed": _self_signed,
    "of an unknown authority": _unknown_authority,
    "a chain without its middle": _chain_without_its_middle,
}


def trust(authority: trustme.CA) -> ssl.SSLContext:
    """A client context: Python's defaults, and this authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context

"""Private authorities, client certificates, and unverified TLS."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.support.web.site import Site, http_response

from fetchq import FetchRequest, FetchResult, FetchStatus, RetryPolicy
from fetchq.command.settings import InvalidSetting
from fetchq_worker.fetch import Fetcher, fetch
from fetchq_worker.fetch.access.credentials import read_credentials
from fetchq_worker.settings import Settings

ONCE = RetryPolicy(max_tries=1)
LOOPBACK = ("127.0.0.0/8", "::1/128")


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return authority


def _server_context(authority: trustme.CA, host: str = "localhost") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host).configure_cert(context)
    return context


@pytest_asyncio.fixture
async def secure(authority: trustme.CA) -> AsyncIterator[Site]:
    site = Site(tls=_server_context(authority), host="localhost")
    await site.start()
    site.serve("/", http_response(b"hello"))
    yield site
    await site.stop()


@pytest_asyncio.fixture
async def mutual(authority: trustme.CA) -> AsyncIterator[Site]:
    """A site that requires a client certificate of the authority."""
    context = _server_context(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    site = Site(tls=context, host="localhost")
    await site.start()
    site.serve("/", http_response(b"hello"))
    yield site
    await site.stop()


async def _fetch(fetcher: Fetcher, url: str, **options: Any) -> FetchResult:
    return await fetch({"fetcher": fetcher}, FetchRequest.of(url, retry=ONCE, **options))


def _settings(tmp_path: Path, **options: Any) -> Settings:
    return Settings(allow_net=LOOPBACK, tls_ca_file=str(tmp_path / "ca.pem"), **options)


def _client_credentials(tmp_path: Path, authority: trustme.CA, origin: str) -> Path:
    client = authority.issue_cert("client@example.org")
    client.private_key_pem.write_to_path(tmp_path / "client.key")
    client.cert_chain_pems[0].write_to_path(tmp_path / "client.pem")
    path = tmp_path / "credentials.toml"
    path.write_text(
        '[credentials.partner]\nkind = "certificate"\ncertificate = "client.pem"\nkey = "client.key"\n'
        f'origins = ["{origin}"]\n'
    )
    path.chmod(0o600)
    return path


@pytest.mark.asyncio
async def test_a_private_authority_is_trusted_if_the_setting_names_it(tmp_path: Path, secure: Site) -> None:
    async with (
        Fetcher.from_settings(_settings(tmp_path)) as trusting,
        Fetcher.from_settings(Settings(allow_net=LOOPBACK)) as strict,
    ):
        assert (await _fetch(trusting, secure.url("/"))).body == b"hello"
        assert (await _fetch(strict, secure.url("/"))).status is FetchStatus.TLS_ERROR
        # The host name is still verified: the certificate is for localhost.
        assert (await _fetch(trusting, secure.url("/", host="127.0.0.1"))).status is FetchStatus.TLS_ERROR


@pytest.mark.asyncio
async def test_an_unverified_certificate_needs_the_consent_of_worker_and_request(secure: Site) -> None:
    settings = Settings(allow_net=LOOPBACK, allow_unverified_tls=True)
    async with (
        Fetcher.from_settings(settings) as allowing,
        Fetcher.from_settings(Settings(allow_net=LOOPBACK)) as strict,
    ):
        assert (await _fetch(allowing, secure.url("/"), verify_tls=False)).body == b"hello"
        # The connection of the unverified fetch must not be reused for a verified one.
        assert (await _fetch(allowing, secure.url("/"))).status is FetchStatus.TLS_ERROR
        refused = await _fetch(strict, secure.url("/"), verify_tls=False)
        assert refused.status is FetchStatus.BLOCKED
        assert refused.error == "this worker does not allow verify_tls=False"


@pytest.mark.asyncio
async def test_a_client_certificate_is_presented_to_its_origin(
    tmp_path: Path, authority: trustme.CA, mutual: Site
) -> None:
    path = _client_credentials(tmp_path, authority, mutual.url())
    async with Fetcher.from_settings(_settings(tmp_path, credentials_file=str(path))) as fetcher:
        assert (await _fetch(fetcher, mutual.url("/"), credential="partner", robots=True)).body == b"hello"
        without = await _fetch(fetcher, mutual.url("/"))
        assert without.status in (FetchStatus.TLS_ERROR, FetchStatus.CONNECT_ERROR)


@pytest.mark.asyncio
async def test_a_client_certificate_is_not_presented_across_origins(
    tmp_path: Path, authority: trustme.CA, secure: Site, mutual: Site
) -> None:
    path = _client_credentials(tmp_path, authority, secure.url())
    secure.serve("/", http_response(status=302, headers={"Location": mutual.url("/")}))
    async with Fetcher.from_settings(_settings(tmp_path, credentials_file=str(path))) as fetcher:
        result = await _fetch(fetcher, secure.url("/"), credential="partner")
    assert result.status in (FetchStatus.TLS_ERROR, FetchStatus.CONNECT_ERROR)
    assert mutual.visits == []


@pytest.mark.asyncio
async def test_unusable_certificate_files_fail_at_start(tmp_path: Path, authority: trustme.CA) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")
    with pytest.raises(InvalidSetting, match=r"--tls-ca-file .FETCHQ_TLS_CA_FILE."):
        Fetcher.from_settings(_settings(tmp_path))
    path = _client_credentials(tmp_path, authority, "https://a.example")
    (tmp_path / "client.key").write_text("nonsense")
    with pytest.raises(InvalidSetting, match="the certificate or key of partner cannot be loaded"):
        Fetcher.from_settings(Settings(credentials_file=str(path)))


def test_the_paths_of_a_certificate_are_relative_to_the_file(tmp_path: Path, authority: trustme.CA) -> None:
    held = read_credentials(_client_credentials(tmp_path, authority, "https://a.example")).credentials["partner"]
    assert getattr(held, "certificate", None) == str(tmp_path / "client.pem")


def _without_key_identifiers(name: str, signer: tuple[x509.Certificate, Any] | None) -> tuple[x509.Certificate, Any]:
    """A certificate and its key; of an authority if there is no signer."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if signer is None else signer[0].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=False)
    )
    if signer is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    return builder.sign(key if signer is None else signer[1], hashes.SHA256()), key


@pytest.mark.asyncio
async def test_certificates_without_key_identifiers_are_accepted_as_by_curl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ssl.create_default_context

    def strict(*args: Any, **options: Any) -> ssl.SSLContext:  # as in Python 3.13
        context = made(*args, **options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    authority = _without_key_identifiers("authority", None)
    leaf, key = _without_key_identifiers("localhost", authority)
    no_encryption = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, no_encryption)
    (tmp_path / "ca.pem").write_bytes(authority[0].public_bytes(serialization.Encoding.PEM))
    (tmp_path / "leaf.pem").write_bytes(leaf.public_bytes(serialization.Encoding.PEM) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "leaf.pem")
    site = Site(tls=context, host="localhost")
    await site.start()
    try:
        async with Fetcher(user_agent="x", allow_net=LOOPBACK, tls_ca_file=str(tmp_path / "ca.pem")) as fetcher:
            result = await _fetch(fetcher, site.serve("/", http_response(b"hello")))
    finally:
        await site.stop()

    assert (result.status, result.error) == (FetchStatus.OK, None)

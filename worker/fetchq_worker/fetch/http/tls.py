"""TLS contexts: which authorities the worker trusts, and which client certificate it presents."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from fetchq.command.settings import InvalidSetting
from fetchq_worker.fetch.access.credentials import Certificate, Credential


class TLSContexts:
    """The contexts of one process, each made once: loading the system's certificates takes some 20 ms."""

    def __init__(self, ca_file: str | None, credentials: Mapping[str, Credential]) -> None:
        """`ca_file` (PEM) is trusted besides the system's authorities. Raises `InvalidSetting`."""
        self._ca_file = ca_file
        self._certificates = {name: held for name, held in credentials.items() if isinstance(held, Certificate)}
        self._made: dict[tuple[str | None, bool], ssl.SSLContext] = {}
        for name in self._certificates:
            self.context(name)  # an unusable certificate fails at start

    def __repr__(self) -> str:
        return f"<TLSContexts ca_file={self._ca_file!r} certificates={sorted(self._certificates)}>"

    def context(self, certificate: str | None = None, *, verify: bool = True) -> ssl.SSLContext:
        """The context with the client certificate of that name, verifying servers if `verify` is set."""
        known = self._made.get((certificate, verify))
        if known is None:
            known = self._made[certificate, verify] = self._make(certificate, verify)
        return known

    def _make(self, certificate: str | None, verify: bool) -> ssl.SSLContext:
        context = ssl.create_default_context()
        # Set by Python 3.13 and newer, not by browsers and curl: some private authorities leave out key identifiers.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        # Debian's Python allows TLS 1.0. A system that asks for more than 1.2 keeps its minimum.
        context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
        context.set_alpn_protocols(["http/1.1"])
        if self._ca_file is not None:
            try:
                context.load_verify_locations(cafile=self._ca_file)
            except (OSError, ssl.SSLError) as problem:
                why = f"{self._ca_file} contains no readable certificates"
                raise InvalidSetting(f"--tls-ca-file (FETCHQ_TLS_CA_FILE): {why}") from problem
        if certificate is not None:
            _load_certificate(context, certificate, self._certificates[certificate])
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _load_certificate(context: ssl.SSLContext, name: str, held: Certificate) -> None:
    password = "" if held.password is None else held.password.reveal()
    try:
        # A password is always given: without one, OpenSSL would ask on the terminal.
        context.load_cert_chain(held.certificate, held.key, password=lambda: password)
    except (OSError, ssl.SSLError, ValueError) as problem:
        why = f"the certificate or key of {name} cannot be loaded"
        raise InvalidSetting(f"--credentials-file (FETCHQ_CREDENTIALS_FILE): {why}") from problem

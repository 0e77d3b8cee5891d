"""Which ports may be connected to.

A server of another protocol may take the lines of an HTTP request for commands of its own, so ports that are known
for one are closed, whatever the address.
"""

from __future__ import annotations

from typing import Final

WEB_PORTS: Final = frozenset({80, 443})
UNPRIVILEGED: Final = range(1024, 65_536)

BAD_PORTS: Final = frozenset(
    {
        # Fetch standard, "port blocking": its bad ports above 1023. All those below are closed anyhow.
        1719,  # H.323 gatekeeper
        1720,  # H.323 call
        1723,  # PPTP
        2049,  # NFS
        3659,  # Apple SASL
        4045,  # NFS lock manager
        4190,  # ManageSieve
        5060,  # SIP
        5061,  # SIP over TLS
        6000,  # X11
        6566,  # SANE
        *range(6665, 6670),  # IRC
        6679,  # IRC over TLS
        6697,  # IRC over TLS
        10080,  # Amanda
        # And two that read a request line by line and skip what they do not know, where a body can speak to them.
        6379,  # Redis
        11211,  # memcached
    }
)


def is_open_port(port: int) -> bool:
    """Whether a port is one for HTTP where no setting says so: 80, 443, and the unprivileged but `BAD_PORTS`."""
    return port in WEB_PORTS or (port in UNPRIVILEGED and port not in BAD_PORTS)

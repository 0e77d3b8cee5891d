"""Ports that may be connected to.

A server of another protocol may execute the lines of an HTTP request as commands, so the ports of such protocols are
forbidden at every address.
"""

from __future__ import annotations

from typing import Final

WEB_PORTS: Final = frozenset({80, 443})
UNPRIVILEGED: Final = range(1024, 65_536)

BAD_PORTS: Final = frozenset(
    {
        # Fetch standard, "port blocking": the bad ports above 1023. Those below are forbidden anyway.
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
        # Two that skip unknown lines and so would execute commands in the body of a request.
        6379,  # Redis
        11211,  # memcached
    }
)


def is_open_port(port: int) -> bool:
    """Whether a port is allowed without a setting: 80, 443, and the unprivileged ones except `BAD_PORTS`."""
    return port in WEB_PORTS or (port in UNPRIVILEGED and port not in BAD_PORTS)

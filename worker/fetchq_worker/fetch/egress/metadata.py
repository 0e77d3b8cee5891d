"""The metadata services of clouds, which hand an instance its credentials: the most frequent target of SSRF.

Their addresses stay forbidden inside an allowed wider network, and their names are not resolved.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final

METADATA_ADDRESSES: Final = frozenset(
    {
        IPv4Address("169.254.169.254"),  # AWS, Azure, Google, OpenStack, Oracle, DigitalOcean, Hetzner and others
        IPv4Address("169.254.170.2"),  # AWS ECS task credentials
        IPv4Address("169.254.170.23"),  # AWS EKS Pod Identity
        IPv4Address("169.254.0.23"),  # Tencent
        IPv4Address("169.254.42.42"),  # Scaleway
        IPv4Address("100.100.100.200"),  # Alibaba
        IPv4Address("168.63.129.16"),  # Azure WireServer, in public address space
        IPv4Address("192.0.0.192"),  # Oracle Classic
        IPv6Address("fd00:ec2::254"),  # AWS
        IPv6Address("fd00:ec2::23"),  # AWS EKS Pod Identity
        IPv6Address("fd20:ce::254"),  # Google
        IPv6Address("fd00:c1::a9fe:a9fe"),  # Oracle
        IPv6Address("fd00:a9fe:a9fe::1"),  # Akamai
        IPv6Address("fd00:42::42"),  # Scaleway
        IPv6Address("fe80::a9fe:a9fe"),  # OpenStack
    }
)
"""From the clouds' documentation of their instance metadata services."""

_METADATA_NAMES: Final = frozenset(
    {
        "instance-data",  # AWS, through the search domain of a VPC
        "instance-data.ec2.internal",
        "metadata",  # Google
        "metadata.google.internal",
        "metadata.goog",
        "metadata.azure.internal",
        "metadata.packet.net",
        "metadata.platformequinix.com",
        "metadata.tencentyun.com",
        "rancher-metadata",
    }
)
_REGIONAL_INSTANCE_DATA: Final = ("instance-data.", ".compute.internal")
"""AWS outside us-east-1: `instance-data.<region>.compute.internal`."""


def is_metadata_name(name: str) -> bool:
    """Whether a name, in lower case and without trailing dots, belongs to a metadata service."""
    first, last = _REGIONAL_INSTANCE_DATA
    return name in _METADATA_NAMES or (name.startswith(first) and name.endswith(last))

"""URLs of public hosts that look private, and the address that each must connect to."""

from __future__ import annotations

from typing import Final, NamedTuple

from .arena import PUBLIC


class Good(NamedTuple):
    kind: str
    url: str
    address: str
    port: int
    source: str


def _literals(kind: str, source: str, *addresses: str) -> list[Good]:
    return [
        Good(kind, f"http://[{address}]/" if ":" in address else f"http://{address}/", address, 80, source)
        for address in addresses
    ]


def _public(kind: str, source: str, *urls: str, port: int = 80) -> list[Good]:
    return [Good(kind, url, PUBLIC, port, source) for url in urls]


GOOD: Final = (
    *_literals(
        "beside a special range",
        "IANA special-purpose registries",
        "1.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "191.255.255.255",
        "192.0.1.0",
        "192.0.3.0",
        "192.88.98.255",
        "192.88.100.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "198.51.99.255",
        "198.51.101.0",
        "203.0.112.255",
        "203.0.114.0",
        "223.255.255.255",
        "168.63.129.15",
        "2001:200::1",
        "2001:db7:ffff::1",
        "2001:db9::1",
        "2003::1",
        "2620:4f:7fff::1",
        "3ffe:ffff::1",
        "3fff:1000::1",
    ),
    *_literals(
        "public services",
        "their operators",
        "1.1.1.1",
        "8.8.8.8",
        "9.9.9.9",
        "2606:4700:4700::1111",
        "2001:4860:4860::8888",
        "2620:fe::fe",
        "2a00:1450:4001:830::200e",
        "2400:cb00::1",
    ),
    Good("octal", "http://010.8.8.8/", "8.8.8.8", 80, "URL standard, IPv4 parser; CVE-2021-29921 (ipaddress)"),
    Good("hexadecimal", "http://0x08080808/", "8.8.8.8", 80, "URL standard, IPv4 parser"),
    *_literals("NAT64 of a public address", "RFC 6052, section 3.1; RFC 6147", "64:ff9b::808:808"),
    *_literals("ISATAP of a public address", "RFC 5214, section 6.1", "2606:4700::5efe:808:808"),
    *_public(
        "names",
        "RFC 6761; URL standard, host parser",
        "http://public.example/",
        "http://public.example./",
        "http://localhost.example/",
        "http://notlocalhost/",
        "http://mylocalhost.example/",
        "http://127.0.0.1.example/",
        "http://10.example/",
        "http://metadata.example/",
        "http://169.254.169.254.example/",
        "http://web1/",
        "http://host-1/",
        "http://a.b2/",
        "http://xn--mgbh0fb.xn--kgbechtv/",
        "http://مثال.إختبار/",
        "http://bücher.example/",
        "http://👻.example/",
        "http://under_score.example/",
        "http://0xg.example/",
    ),
    *_public(
        "parts that look like hosts",
        "Orange Tsai, A New Era of SSRF, 2017",
        "http://public.example/@127.0.0.1/",
        "http://public.example/?u=http://127.0.0.1/",
        "http://public.example/#@127.0.0.1/",
        "http://public.example?@127.0.0.1",
        "http://public.example#@127.0.0.1",
        "http://public.example\\@127.0.0.1/",
        "http://public.example//127.0.0.1/",
        "http://public.example/..//127.0.0.1/",
        "http://public.example/[::1]/%2e%2e/",
        "http:public.example/",
        "HTTP:\\\\public.example\\",
        "  http://pub\tlic.example/\n",
        "http://public.example/\r\nHost: 127.0.0.1\r\n\r\n",
        "http://public.example:/",
        "http://public.example:080/",
    ),
    *_public("ports", "Fetch standard, port blocking", "https://public.example/", port=443),
    *_public("ports", "Fetch standard, port blocking", "http://public.example:8080/", port=8080),
    *_public("ports", "Fetch standard, port blocking", "https://public.example:8443/", port=8443),
    *_public("ports", "Fetch standard, port blocking", "http://public.example:1024/", port=1024),
    *_public("ports", "Fetch standard, port blocking", "http://public.example:65535/", port=65535),
    *_public("ports", "Fetch standard, port blocking", "http://public.example:443/", port=443),
)

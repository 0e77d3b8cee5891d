"""`python -m harness.suites.cookies CHECKOUT`: the cookie cases of abarth/http-state, through real fetches on loopback.

Each case is a response that sets cookies and redirects; the Cookie field of the next request must be the expected one.
Prints how many are, and each difference with its reason, then the dates. Exits with status 1 if one has no reason.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.web.dns_server import DnsServer
from tests.support.web.site import Site

from fetchq import FetchRequest, RetryPolicy
from fetchq_worker.fetch import Fetcher, fetch
from fetchq_worker.fetch.access.cookie_date import cookie_date_s

_HOST: Final = "home.example.org"
_PORT: Final = b":8888"

_EXPIRED: Final = "its Expires was in the future when the case was written"
_CONTROL: Final = "a control character: RFC 6265bis, section 5.6, ignores the field"
REASONS: Final = {
    "0002": _EXPIRED,
    "comma0006": _EXPIRED,
    "comma0007": _EXPIRED,
    "disabled-chromium0022": "a zero byte: such a head is refused as a whole",
    "disabled-chromium0023": _CONTROL,
    "disabled-path0029": "RFC 6265bis, section 5.1.4, compares paths without decoding %6F",
}


class Case(NamedTuple):
    name: str
    lines: tuple[bytes, ...]
    """Fields of the response."""
    expected: str | None
    """The Cookie field of the next request, decoded as Latin-1."""


def read_cases(folder: Path) -> Iterator[Case]:
    for path in sorted(folder.glob("*-test")):
        name = path.name.removesuffix("-test")
        found = re.findall(r"Cookie:\s*(.*)", (folder / f"{name}-expected").read_bytes().decode("latin-1"))
        lines = tuple(line for line in path.read_bytes().split(b"\n") if line)
        yield Case(name, lines, found[0] if len(found) == 1 else None)


def redirect(case: Case, port: int) -> bytes:
    lines = [line.replace(_PORT, b":%d" % port) if line.startswith(b"Location:") else line for line in case.lines]
    if not any(line.startswith(b"Location:") for line in lines):
        lines.append(b"Location: /cookie-parser-result?" + case.name.encode())
    return b"\r\n".join([b"HTTP/1.1 302 Found", b"Content-Length: 0", *lines, b"", b""])


async def run(cases: list[Case]) -> dict[str, str | None]:
    """What was sent, by the name of the case."""
    sent: dict[str, str | None] = {}
    dns, site = DnsServer(), Site(host=_HOST)
    dns.default = ("127.0.0.1",)
    await dns.start()
    await site.start()
    once = RetryPolicy(max_tries=1)
    async with Fetcher(
        user_agent="fetchq-cookies/1", allow_net=("127.0.0.0/8",), nameservers=(dns.address,)
    ) as fetcher:
        for case in cases:
            site.visits.clear()
            site.serve("/cookie-parser", redirect(case, site.port))
            request = FetchRequest(url=site.url(f"/cookie-parser?{case.name}"), cookies=True, retry=once)
            result = await fetch({"fetcher": fetcher}, request)
            redirected = len(site.visits) == 2
            sent[case.name] = site.visits[1].header("Cookie") if redirected else f"{result.status}: {result.error}"
    await site.stop()
    dns.stop()
    return sent


def wrong_dates(folder: Path) -> tuple[list[str], int]:
    """The dates that are parsed otherwise than expected, and the number of all."""
    pairs: list[dict[str, str | None]] = []
    for path in sorted(folder.glob("*.json")):
        text = re.sub(r"^//.*$", "", path.read_text(), flags=re.MULTILINE)
        pairs += json.loads(re.sub(r",(\s*[]}])", r"\1", text))
    return [str(pair["test"]) for pair in pairs if _shown(cookie_date_s(str(pair["test"]))) != pair["expected"]], len(
        pairs
    )


def _shown(date_s: float | None) -> str | None:
    return None if date_s is None else formatdate(date_s, usegmt=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    data = parser.parse_args().checkout / "tests/data"
    cases = list(read_cases(data / "parser"))
    sent = asyncio.run(run(cases))
    different = [case for case in cases if sent[case.name] != case.expected]
    for case in different:
        print(f"{case.name}: {REASONS.get(case.name, 'NO REASON')}")
        print(f"    sent     {sent[case.name]!r}\n    expected {case.expected!r}")
    print(f"{len(cases) - len(different)} of {len(cases)} as expected")
    wrong, count = wrong_dates(data / "dates")
    for text in wrong:
        print(f"date: {text!r}")
    print(f"{count - len(wrong)} of {count} dates as expected")
    return int(not cases or any(case.name not in REASONS for case in different) or bool(wrong))


if __name__ == "__main__":
    sys.exit(main())

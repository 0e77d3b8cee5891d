"""No generated URL opens a socket to a forbidden address, checked at the socket by an independent oracle."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import count

import pytest
import uvloop
from harness.egress.arena import PUBLIC, REDIRECTOR, Arena, make_arena
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fetchq import FetchStatus

EXAMPLES = 400


def is_inside(address: str) -> bool:
    """The verdict of Python's own table, extended by the forms that it does not know."""
    ip = ip_address(address)
    if isinstance(ip, IPv4Address):
        relay = ip in ip_network("192.88.99.0/24")
        return not ip.is_global or ip.is_multicast or relay or address == "168.63.129.16"
    low = IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip.ipv4_mapped or ip in ip_network("64:ff9b::/96"):
        return is_inside(str(low))
    if ip.sixtofour or ip.teredo or ip not in ip_network("2000::/3") or ip in ip_network("3fff::/20"):
        return True
    isatap = int(ip) >> 32 & 0xFDFFFFFF == 0x5EFE
    return not ip.is_global or (isatap and is_inside(str(low)))


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("127.0.0.1", True),
        ("::ffff:10.0.0.1", True),
        ("2002:808:808::", True),
        ("2606:4700::5efe:a00:1", True),
        ("64:ff9b::a00:1", True),
        ("64:ff9b::808:808", False),
        ("8.8.8.8", False),
        ("2606:4700::1111", False),
    ],
)
def test_the_oracle_distinguishes_public_from_private_addresses(address: str, inside: bool) -> None:
    assert is_inside(address) is inside


INSIDE_V4 = st.sampled_from(
    [
        "127.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "169.254.169.254",
        "192.168.0.1",
        "172.16.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "224.0.0.1",
        "255.255.255.255",
    ]
).map(IPv4Address)
V4 = INSIDE_V4 | st.integers(0, 2**32 - 1).map(IPv4Address)


@st.composite
def _v4_spelling(draw: st.DrawFn) -> str:
    """An IPv4 address in 1 to 4 parts, each decimal, octal or hexadecimal (URL standard, "IPv4 parser")."""
    number = int(draw(V4))
    parts = draw(st.integers(1, 4))
    values = [number >> (24 - 8 * index) & 0xFF for index in range(parts - 1)]
    values.append(number & (1 << (8 * (5 - parts))) - 1)
    forms = st.sampled_from(["{}", "0{:o}", "0x{:x}", "0X{:X}", "000{:o}", "0x00{:x}"])
    dot = draw(st.sampled_from([".", ".", ".", "。", "．", "｡", "%2e"]))  # noqa: RUF001
    return dot.join(draw(forms).format(value) for value in values)


_WIDE = {ord("0") + digit: chr(0xFF10 + digit) for digit in range(10)}
_CIRCLED = {ord("1") + digit: chr(0x2460 + digit) for digit in range(9)}


def _disguised(text: str, how: int) -> str:
    """Another spelling of the host that a URL parser treats as equal."""
    match how:
        case 1:
            return text.translate(_WIDE)
        case 2:
            return text.translate(_CIRCLED)
        case 3:
            return "".join(
                f"%{ord(letter):02x}" if letter.isalnum() and letter.isascii() else letter for letter in text
            )
        case 4:
            return text.upper() + "."
        case 5:
            return "\u00ad".join(text)
        case _:
            return text


V6_FORMS = [
    "::{}",
    "::ffff:{}",
    "::ffff:0:{}",
    "64:ff9b::{}",
    "64:ff9b:1::{}",
    "2606:4700::5efe:{}",
    "2606:4700::200:5efe:{}",
    "fe80::{}",
    "2001:db8::{}",
    "2606:4700::{}",
]
V6 = (
    st.builds(lambda form, v4: form.format(v4), st.sampled_from(V6_FORMS), V4)
    | V4.map(lambda v4: str(IPv6Address((0x2002 << 112) | (int(v4) << 80))))
    | st.integers(0, 2**128 - 1).map(lambda number: str(IPv6Address(number)))
)
HOSTS = (
    st.builds(_disguised, _v4_spelling(), st.integers(0, 5))
    | st.builds(
        _disguised, st.sampled_from(["localhost", "a.localhost", "metadata.google.internal"]), st.integers(0, 5)
    )
    | V6.map(lambda v6: f"[{v6}]")
    | st.sampled_from(["{name}", "{name}.", "a.{name}"])
)
NOISE = st.text(st.sampled_from("@\\/#?:[]%.\t\r\n x1"), max_size=3)
URLS = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(
            ["http://", "https://", "HTTP://", "http:\\\\", "http:/", "http:", "//", "ht\ttp://", " http:///"]
        ),
        st.sampled_from(["", "", "", "", "a@", "1.1.1.1@", "1.1.1.1:80@", "{name}@", "{name}/@", "1.1.1.1\\@"]),
        HOSTS,
        NOISE,
        st.sampled_from(["", "", ":{inside}", ":{inside}", ":80", ":22", ":0", ":65536", ":00080", ":6379"]),
        NOISE,
        st.sampled_from(["/", "", "/x?y#z", "#@1.1.1.1/", "?@1.1.1.1/", ".{name}/", "@{name}/"]),
    ),
)
ANSWERS = st.lists(
    st.lists(V4.map(str) | V6 | st.just(PUBLIC), max_size=3)
    .map(tuple)
    .filter(lambda answers: len(set(answers)) == len(answers)),
    min_size=1,
    max_size=3,
)


class FuzzArena:
    """One arena for many examples."""

    def __init__(self, runner: asyncio.Runner, arena: Arena) -> None:
        self._runner = runner
        self._numbers = count()
        self.arena = arena

    def try_url(self, url: str, answers: list[tuple[str, ...]], *, redirected: bool) -> FetchStatus:
        """Fetches it, and asserts that no forbidden address was connected to."""
        arena = self.arena
        name = f"n{next(self._numbers)}.example"  # a new one, since look-ups are cached
        arena.dns.names.update({name: answers, f"a.{name}": answers})
        arena.watch.connects.clear()
        url = url.replace("{inside}", str(arena.inside.port)).replace("{name}", name)
        result = self._runner.run(arena.fetch_redirected(url) if redirected else arena.fetch(url))
        inside = [(address, port) for address, port in arena.reached if is_inside(address)]
        assert not inside, (url, inside)
        assert all(port in (80, 443) or port > 1023 for _, port in arena.reached)
        assert not arena.inside.connections
        return result.status


@contextmanager
def _fuzz_arena() -> Iterator[FuzzArena]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        making = make_arena()
        arena = runner.run(making.__aenter__())
        try:
            yield FuzzArena(runner, arena)
        finally:
            runner.run(making.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def fuzz_arena() -> Iterator[FuzzArena]:
    with _fuzz_arena() as fuzz_arena:
        yield fuzz_arena


# No deadline: the test is about where a fetch connects to, not about its speed.
_fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@_fuzz
@given(url=URLS, answers=ANSWERS)
@example(url="http://127.0.0.1:{inside}/", answers=[()])
@example(url="http://{name}:{inside}/", answers=[("127.0.0.1",)])
def test_no_generated_url_opens_a_forbidden_socket(
    fuzz_arena: FuzzArena, url: str, answers: list[tuple[str, ...]]
) -> None:
    fuzz_arena.try_url(url, answers, redirected=False)


@_fuzz
@given(url=URLS, answers=ANSWERS)
@example(url="http://127.0.0.1:{inside}/", answers=[()])
@example(url="http://{name}:{inside}/", answers=[("127.0.0.1",)])
def test_no_generated_location_opens_a_forbidden_socket(
    fuzz_arena: FuzzArena, url: str, answers: list[tuple[str, ...]]
) -> None:
    fuzz_arena.try_url(url, answers, redirected=True)


def test_the_generated_urls_cover_all_outcomes() -> None:
    """The fuzz tests more than the parser: many of its URLs are blocked, and some reach a public address."""
    outcomes: dict[FetchStatus, int] = {}

    with _fuzz_arena() as fuzz_arena:

        @settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True)
        @given(url=URLS, answers=ANSWERS)
        def tally(url: str, answers: list[tuple[str, ...]]) -> None:
            status = fuzz_arena.try_url(url, answers, redirected=False)
            outcomes[status] = outcomes.get(status, 0) + 1

        tally()

    assert outcomes[FetchStatus.BLOCKED] > EXAMPLES / 10, outcomes
    assert outcomes[FetchStatus.INVALID_URL] > EXAMPLES / 20, outcomes
    assert outcomes[FetchStatus.CONNECT_ERROR] > EXAMPLES / 50, outcomes
    assert REDIRECTOR not in {address for address, _ in fuzz_arena.arena.watch.connects}

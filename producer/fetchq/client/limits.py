"""Reads and sets the limits of hosts, which apply to all workers of a queue together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Literal

import msgspec

from fetchq.contract.placement import KEY_PREFIX
from fetchq.contract.urls import host_of, normalise_url
from fetchq.contract.validation import check_limit_key, check_seconds, check_whole
from fetchq.errors import InvalidRequest
from fetchq.store.commands import HostCommands, LimitsReply
from fetchq.store.hosts import keys_with_backlog, read_all_limits, read_limits
from fetchq.store.records import LimitsEntry
from fetchq.store.session import Session
from fetchq.units import RATE_EXAMPLES, parse_interval_s

EVERY_HOST: Final = "*"
"""The name of the limits of every host that has no narrower ones."""
EVERY_OWN_KEY: Final = f"{KEY_PREFIX}*"
"""The same for every `limit_key` that requests name."""
DEFAULT_CONCURRENCY: Final = 8
"""Of a host without limits (`lua/include/hosts/limits.lua`)."""
NO_RATE: Final = "none"

MAX_CONCURRENCY: Final = 100_000
MAX_BURST: Final = 100_000
MAX_DELAY_S: Final = 86_400.0
MAX_NAME_CHARS: Final = 255
_MAX_NAMES: Final = 12
"""Names under which a host is looked up before `*`, as in `lua/include/hosts/limits.lua`."""

_UNITS_US: Final = {"s": 10**6, "min": 60 * 10**6, "h": 3600 * 10**6, "d": 86_400 * 10**6}
_MAX_INTERVAL_US: Final = 31 * _UNITS_US["d"]
_NOTHING: Final = LimitsEntry()


class HostLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a host, a wildcard or every host. None: not set here, so the next wider name decides."""

    concurrency: int | None = None
    """Concurrent fetches, of all workers together."""
    rate: str | None = None
    """Starts per unit of time, such as `2/s`, `100/min`, `5/h`; `none`: no rate limit."""
    burst: int | None = None
    """Starts allowed at once after a pause (GCRA burst)."""
    min_delay_s: float | None = None
    """Minimum seconds between two starts. Where that is slower than the rate, it applies, and there is no burst."""
    paused: bool | None = None
    """Whether its jobs wait until it is resumed."""


class Limits:
    """The limits of one queue, as `Producer.limits`.

    A name is a host as URLs spell it (`example.org`, `bücher.example`, `[2001:db8::1]`), all hosts under a domain
    (`*.example.org`, without `example.org` itself), or every host (`*`). A limit that the narrowest name does not set
    comes from the next wider one. A change also applies to jobs that already wait, but not to running ones.
    """

    def __init__(self, session: Session) -> None:
        self._session: Final = session
        self._commands: Final = HostCommands(session.keys)

    async def set(
        self,
        host: str,
        *,
        concurrency: int | None = None,
        rate: str | None = None,
        burst: int | None = None,
        min_delay_s: float | None = None,
    ) -> HostLimits:
        """Sets some of a host's limits, keeps the others, and returns all that are set for it now.

        Raises `InvalidRequest`.
        """
        name = name_of(host)
        entry = _entry_of(concurrency, rate, burst, min_delay_s)
        if entry == LimitsEntry():
            raise InvalidRequest("limits", "name at least one of concurrency, rate, burst and min_delay_s")
        return _limits_of(LimitsEntry.parse((await self._change(name, "set", entry)).limits))

    async def clear(self, host: str) -> bool:
        """Removes all limits of a host, a pause too. Returns whether there were any."""
        return (await self._change(name_of(host), "clear")).existed

    async def pause(self, host: str) -> None:
        """Starts no more jobs of this host. Running jobs continue; the others wait, and no try is counted."""
        await self._change(name_of(host), "set", LimitsEntry(paused=True))

    async def resume(self, host: str) -> None:
        """Ends a pause for this host only, even if a wider name is paused."""
        await self._change(name_of(host), "resume")

    async def effective(self, host: str) -> HostLimits:
        """The effective limits of a host. `rate` and `burst` are None where it has no rate limit."""
        entries = await read_limits(self._session, list(_names(name_of(host))))
        found = [_limits_of(entry) for entry in entries if entry is not None]

        def first(field: str, otherwise: Any) -> Any:
            return next((value for limits in found if (value := getattr(limits, field)) is not None), otherwise)

        rate = first("rate", NO_RATE)
        return HostLimits(
            concurrency=first("concurrency", DEFAULT_CONCURRENCY),
            rate=None if rate == NO_RATE else rate,
            burst=None if rate == NO_RATE else max(1, first("burst", 1)),
            min_delay_s=first("min_delay_s", 0.0),
            paused=first("paused", False),
        )

    async def list(self) -> dict[str, HostLimits]:
        """The limits that were set, by name: the wildcards, then the hosts in alphabetical order."""
        entries = await read_all_limits(self._session)
        by_name = {name.decode("utf-8", "replace"): _limits_of(entry) for name, entry in entries.items()}
        return {name: by_name[name] for name in sorted(by_name)}

    async def _change(
        self, name: str, action: Literal["set", "resume", "clear"], entry: LimitsEntry = _NOTHING
    ) -> LimitsReply:
        wide = name.startswith("*") or name == EVERY_OWN_KEY
        recheck = () if wide else (name,)
        with self._session.guarded():
            reply = await self._commands.set_limits(self._session.runner, name, action, entry.format(), recheck=recheck)
        if wide:
            await self._apply(name)
        return reply

    async def _apply(self, name: str) -> None:
        """Applies a change to each key under `name` with waiting jobs. Jobs enqueued meanwhile already see it."""
        async for keys in keys_with_backlog(self._session):
            recheck = [key for key in keys if _covers(name, key)]
            if recheck:
                with self._session.guarded():
                    await self._commands.set_limits(self._session.runner, "", "", recheck=recheck)


def name_of(host: str) -> str:
    """A host, a wildcard or `key:...` in its canonical form; raises `InvalidRequest`."""
    if not isinstance(host, str):
        raise InvalidRequest("host", f"takes a string, not {type(host).__name__}")
    name = host.strip()
    if name == EVERY_HOST:
        return name
    if host.startswith(KEY_PREFIX):
        check_limit_key("host", host.removeprefix(KEY_PREFIX))
        return host
    if name.startswith("*."):
        return f"*.{_host(name[2:], host)}"
    return _host(name, host)


def _host(text: str, shown: str) -> str:
    """The host as in a serialised URL: in lower case, IDNA done, addresses in their canonical form."""
    wrong = InvalidRequest(
        "host", f"takes a host such as example.org, *.example.org or *, not {shown[:80]!r}: no scheme, port or path"
    )
    if text.count(":") > 1 and not text.startswith("["):
        text = f"[{text}]"
    if not text or len(text) > MAX_NAME_CHARS or re.search(r"[/?#@\\*\s]|:\d*$", text.partition("]")[2] or text):
        raise wrong
    try:
        return host_of(normalise_url(f"http://{text}/"))
    except InvalidRequest as problem:
        raise wrong from problem


def _entry_of(concurrency: int | None, rate: str | None, burst: int | None, min_delay_s: float | None) -> LimitsEntry:
    """Checks limits and converts them to the units in which they are stored."""
    if concurrency is not None:
        check_whole("concurrency", concurrency, 1, MAX_CONCURRENCY)
    interval_us = None if rate is None else _interval_us(rate)
    if burst is not None:
        check_whole("burst", burst, 1, MAX_BURST)
    if min_delay_s is not None:
        check_seconds("min_delay_s", min_delay_s, 0, MAX_DELAY_S)
    return LimitsEntry(concurrency, interval_us, burst, None if min_delay_s is None else round(min_delay_s * 1000))


def _interval_us(rate: str) -> int:
    """Microseconds between two starts; 0 for no limit."""
    if not isinstance(rate, str):
        raise InvalidRequest("rate", f"takes {RATE_EXAMPLES}, or none, not {type(rate).__name__}")
    if rate.strip().lower() == NO_RATE:
        return 0
    try:
        interval_us = parse_interval_s(rate) * 10**6
    except ValueError as problem:
        raise InvalidRequest("rate", str(problem).replace(RATE_EXAMPLES, f"{RATE_EXAMPLES}, or none")) from None
    if not 1 <= interval_us <= _MAX_INTERVAL_US:
        raise InvalidRequest("rate", f"{rate.strip()} is not between once in 31 days and a million a second")
    return -int(-round(interval_us, 6) // 1)  # rounded up: never faster than the rate


def _rate(interval_us: int) -> str:
    """The inverse of `_interval_us`, in the unit in which it is a whole number."""
    if interval_us == 0:
        return NO_RATE
    for unit, unit_us in _UNITS_US.items():
        number = round(unit_us / interval_us)
        if number and -(-unit_us // number) == interval_us:
            return f"{number}/{unit}"
    return f"{10**6 / interval_us:.6g}/s"


def _limits_of(entry: LimitsEntry) -> HostLimits:
    return HostLimits(
        concurrency=entry.concurrency,
        rate=None if entry.interval_us is None else _rate(entry.interval_us),
        burst=entry.burst,
        min_delay_s=None if entry.delay_ms is None else entry.delay_ms / 1000,
        paused=entry.paused,
    )


def _covers(name: str, key: bytes) -> bool:
    """Whether a wide name applies to a limit key."""
    own = key.startswith(KEY_PREFIX.encode())
    if name == EVERY_OWN_KEY:
        return own
    return name == EVERY_HOST or (not own and key.endswith(name[1:].encode()))


def names_of_key(key: bytes) -> Sequence[bytes]:
    """Names under which limits of a limit key may be set, the narrowest first."""
    return [name.encode("utf-8", "surrogateescape") for name in _names(key.decode("utf-8", "surrogateescape"))]


def is_paused(entries: Iterable[LimitsEntry | None]) -> bool:
    """Whether a limit key is paused, from what is set under its names."""
    pauses = (entry.paused for entry in entries if entry is not None)
    return next((value for value in pauses if value is not None), False)


def _names(name: str) -> Iterator[str]:
    """Names under which a host is looked up, the narrowest first."""
    yield name
    own = name.startswith(KEY_PREFIX)
    if own and name != EVERY_OWN_KEY:
        yield EVERY_OWN_KEY
    dot = -1 if own else name.find(".")
    for _ in range(_MAX_NAMES - 1):
        if dot < 0:
            break
        yield f"*{name[dot:]}"
        dot = name.find(".", dot + 1)
    yield EVERY_HOST

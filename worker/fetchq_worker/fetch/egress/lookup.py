"""DNS look-ups: from a name to its addresses, by c-ares, cached and shared. No address is checked here.

c-ares adapts its timeout to a name server: after a few quick answers it waits a quarter of a second for the next one,
then asks again from another port, where an answer to the earlier query no longer arrives. So a server that becomes slow
is never heard. A look-up that is not answered within `PATIENT_AFTER_S` is therefore repeated over a second channel,
which has adapted to nothing. The caller decides how long to wait.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Sequence
from time import monotonic
from typing import Final, NamedTuple

import aiodns
import pycares
from aiodns.error import (
    ARES_EBADNAME,
    ARES_ECANCELLED,
    ARES_ECONNREFUSED,
    ARES_ENODATA,
    ARES_ENOTFOUND,
    ARES_EREFUSED,
    ARES_ESERVFAIL,
    ARES_ETIMEOUT,
    DNSError,
)

from fetchq import FetchqError

CACHE_S: Final = 10.0
"""How long addresses are cached at most; a shorter TTL counts, 0 included."""
MAX_CACHED_NAMES: Final = 16_384
MAX_ADDRESSES: Final = 32
"""Of one name; further ones are not tried. They are checked all the same: see `GuardedResolver`."""
PATIENT_AFTER_S: Final = 0.25
"""When a look-up without an answer is repeated over the second channel."""
_PATIENT_TRY_S: Final = 5.0
"""How long that channel waits for an answer before it asks again: as glibc's resolver does, and as c-ares at most."""
_QUICK_S: Final = 1.0
"""A channel that answers sooner adapts to a timeout below `_PATIENT_TRY_S`: c-ares takes five times the average."""
_REPLACE_S: Final = 1.0
"""The shortest time between two second channels: each has a thread and some descriptors."""

_NO_ADDRESS: Final = "it does not exist or has no address"
"""One sentence for both: which of them it is would reveal names inside the worker's network."""
_REASONS: Final = {
    ARES_ENOTFOUND: _NO_ADDRESS,
    ARES_ENODATA: _NO_ADDRESS,
    ARES_ESERVFAIL: "the name server failed (SERVFAIL)",
    ARES_EREFUSED: "the name server refused to answer (REFUSED)",
    ARES_ECONNREFUSED: "no name server can be reached",
    ARES_EBADNAME: "it is not a valid name",
}
_CLOSED: Final = "the client is closed"
_UNANSWERED: Final = frozenset({ARES_ETIMEOUT, ARES_ECANCELLED})


class NameUnresolved(FetchqError, OSError):
    """A name has no addresses. The message is a sentence that says why, without the name."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the name does not resolve: {reason}")


class NameServersSilent(FetchqError, TimeoutError):
    """No name server answered in time."""

    def __init__(self) -> None:
        super().__init__("no name server answered within connect_timeout_s")


class Answer(NamedTuple):
    """The addresses of a name, and how long they are valid."""

    addresses: tuple[str, ...]
    ttl_s: float


class Lookups:
    """Looks names up. Made inside a running event loop, closed by `aclose`.

    `nameservers` (`address:port`) replace the system's.
    """

    def __init__(self, nameservers: Sequence[str] = ()) -> None:
        self._nameservers = tuple(nameservers)
        self._cached: OrderedDict[str, tuple[tuple[str, ...], float]] = OrderedDict()
        self._shared: dict[str, _Shared] = {}
        self._quick: aiodns.DNSResolver | None = None
        self._patient: _Patient | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<Lookups cached={len(self._cached)} running={len(self._shared)}>"

    async def aclose(self) -> None:
        self._closed = True
        tasks = [shared.task for shared in self._shared.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._quick is not None:
            await self._quick.close()
        if self._patient is not None:
            await self._patient.resolver.close()

    def cached(self, name: str) -> tuple[str, ...] | None:
        """The cached addresses; None: they must be looked up."""
        addresses, until_s = self._cached.get(name, ((), 0.0))
        return addresses if until_s > monotonic() else None

    async def resolve(self, name: str) -> tuple[str, ...]:
        """All addresses of a name, however long that takes; raises `NameUnresolved`.

        Concurrent calls for one name share one look-up, which ends with the last of them.
        """
        addresses = self.cached(name)
        if addresses is not None:
            return addresses
        shared = self._shared.get(name)
        if shared is None:
            shared = self._shared[name] = _Shared(asyncio.create_task(self._look_up(name), name=f"look-up of {name}"))
        shared.waiters += 1
        try:
            return await asyncio.shield(shared.task)
        finally:
            shared.waiters -= 1
            if not shared.waiters:
                shared.task.cancel()
                if self._shared.get(name) is shared:
                    del self._shared[name]

    async def _look_up(self, name: str) -> tuple[str, ...]:
        answer = await self._ask(name)
        if answer.ttl_s > 0:
            self._cached[name] = answer.addresses, monotonic() + min(answer.ttl_s, CACHE_S)
            self._cached.move_to_end(name)
            if len(self._cached) > MAX_CACHED_NAMES:
                self._cached.popitem(last=False)
        return answer.addresses

    async def _ask(self, name: str) -> Answer:
        if self._closed:
            raise NameUnresolved(_CLOSED)
        if self._quick is None:
            self._quick = self._channel(None)
        quick = _addrinfo(self._quick, name)
        await asyncio.wait((quick,), timeout=PATIENT_AFTER_S)
        if quick.done() and not _is_unanswered(quick):
            return _answer(quick)
        return await self._ask_patiently(name, quick)

    async def _ask_patiently(self, name: str, quick: asyncio.Future[pycares.AddrInfoResult]) -> Answer:
        """Asks over the second channel, again and again until one of the two channels has an answer."""
        while not self._closed:
            patient = self._patient
            if patient is None or (patient.adapted and monotonic() - patient.made_at >= _REPLACE_S):
                # The earlier one is closed once its last look-up has dropped it.
                patient = self._patient = _Patient(self._channel(_PATIENT_TRY_S))
            began = monotonic()
            slow = _addrinfo(patient.resolver, name)
            pending = {slow} if quick.done() else {quick, slow}
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                patient.adapted = patient.adapted or (slow in done and monotonic() - began < _QUICK_S)
                answered = next((future for future in done if not _is_unanswered(future)), None)
                if answered is not None:
                    return _answer(answered)
        raise NameUnresolved(_CLOSED)

    def _channel(self, timeout_s: float | None) -> aiodns.DNSResolver:
        # A name with a dot is asked for as it is before the search domains, whatever `ndots` the system sets:
        # Kubernetes sets 5, which means ten queries for each public name.
        try:
            return aiodns.DNSResolver(nameservers=self._nameservers or None, timeout=timeout_s, ndots=1)
        except pycares.AresError as problem:  # no descriptor or no thread is left
            raise NameUnresolved("the resolver cannot be started") from problem


class _Shared:
    """A look-up and the number of those that wait for it."""

    __slots__ = ("task", "waiters")

    def __init__(self, task: asyncio.Task[tuple[str, ...]]) -> None:
        self.task = task
        self.waiters = 0


class _Patient:
    """A channel, and whether it has answered so soon that its timeout is no longer `_PATIENT_TRY_S`."""

    __slots__ = ("adapted", "made_at", "resolver")

    def __init__(self, resolver: aiodns.DNSResolver) -> None:
        self.resolver = resolver
        self.made_at = monotonic()
        self.adapted = False


def _addrinfo(resolver: aiodns.DNSResolver, name: str) -> asyncio.Future[pycares.AddrInfoResult]:
    future = resolver.getaddrinfo(name, type=socket.SOCK_STREAM)
    future.add_done_callback(_retrieve)
    return future


def _retrieve(future: asyncio.Future[pycares.AddrInfoResult]) -> None:
    """Marks an exception as retrieved: the other channel may have answered before."""
    if not future.cancelled():
        future.exception()


def _is_unanswered(future: asyncio.Future[pycares.AddrInfoResult]) -> bool:
    problem = future.exception()
    return isinstance(problem, DNSError) and problem.args[0] in _UNANSWERED


def _answer(future: asyncio.Future[pycares.AddrInfoResult]) -> Answer:
    try:
        nodes = future.result().nodes
    except (DNSError, UnicodeError) as problem:
        reason = _REASONS.get(problem.args[0], str(problem.args[-1]).lower())
        raise NameUnresolved(reason) from problem
    if not nodes:
        raise NameUnresolved(_NO_ADDRESS)
    return Answer(tuple([node.addr[0].decode("ascii") for node in nodes]), min(node.ttl for node in nodes))

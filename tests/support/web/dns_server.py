"""A DNS server on loopback whose answers each test sets, possibly different for each query."""

from __future__ import annotations

import asyncio
from collections import Counter
from ipaddress import ip_address

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

_FAMILY = {"A": 4, "AAAA": 6}


class DnsServer(asyncio.DatagramProtocol):
    """`server.names[name]` are the answers of a name, one set of addresses per look-up, the last one from then on.

    An address `-> name` is an alias (CNAME) for that name. `queries` lists all queries.
    """

    def __init__(self) -> None:
        self.names: dict[str, list[tuple[str, ...]]] = {}
        self.default: tuple[str, ...] | None = None
        """The addresses of every other name; None: they do not exist."""
        self.silent = False
        self.unanswered: set[str] = set()
        """The kinds of queries (A, AAAA) that are dropped."""
        self.delay_s = 0.0
        """How long each answer is held back."""
        self.ttl_s = 0
        self.failure: dns.rcode.Rcode | None = None
        """The response code of every answer, in place of an answer."""
        self.queries: list[tuple[str, str]] = []
        self.address = ""
        self._asked: Counter[tuple[str, str]] = Counter()
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, ("127.0.0.1", 0))
        self.address = "127.0.0.1:{}".format(self._transport.get_extra_info("sockname")[1])

    def stop(self) -> None:
        assert self._transport is not None
        self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None
        answer = self.answer(data)
        if self.delay_s:
            asyncio.get_running_loop().call_later(self.delay_s, self._send, answer, addr)
        elif not self.silent and self.queries[-1][1] not in self.unanswered:
            self._transport.sendto(answer, addr)

    def _send(self, answer: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.sendto(answer, addr)

    def answer(self, data: bytes) -> bytes:
        query = dns.message.from_wire(data)
        question = query.question[0]
        kind = question.rdtype.name
        name = question.name.to_text(omit_final_dot=True).lower()
        self.queries.append((name, kind))
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.AA | dns.flags.RA
        if self.failure is not None:
            reply.set_rcode(self.failure)
            return reply.to_wire()
        target = question.name
        addresses = self._next_of(name, kind)
        while addresses is not None and addresses and addresses[0].startswith("-> "):
            alias = addresses[0].removeprefix("-> ")
            reply.answer.append(dns.rrset.from_text(target, self.ttl_s, "IN", "CNAME", f"{alias}."))
            target, addresses = reply.answer[-1][0].target, self._next_of(alias, kind)
        if addresses is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        elif fitting := [address for address in addresses if ip_address(address).version == _FAMILY.get(kind)]:
            reply.answer.append(dns.rrset.from_text_list(target, self.ttl_s, "IN", kind, fitting))
        return reply.to_wire(max_size=65_535)

    def _next_of(self, name: str, kind: str) -> tuple[str, ...] | None:
        answers = self.names.get(name)
        if answers is None:
            return self.default
        turn = self._asked[name, kind]
        self._asked[name, kind] += 1
        return answers[min(turn, len(answers) - 1)]

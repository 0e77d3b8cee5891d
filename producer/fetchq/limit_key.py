"""What a job's limits belong to: its limit key, by default the host of its URL (`lua/frontier.lua`)."""

from __future__ import annotations

from typing import Final

from .request import FetchRequest

PARKED: Final = 2**52
"""From this score on a pending job waits in the queue of its limit key (`lua/frontier.lua`)."""


def host_of(url: str) -> str:
    """The host in a URL that ada has serialised: `https://[::1]:8080/` -> `[::1]`.

    Only of such a URL (WHATWG URL, section 4.5): scheme and host are in lower case, there is no user name, and a path.
    """
    start = url.find("://") + 3
    authority = url[start : url.find("/", start)]
    if authority.endswith("]"):
        return authority
    host, colon, _ = authority.rpartition(":")
    return host if colon else authority


def limit_key_of(request: FetchRequest) -> str:
    """The key under which a request is limited, as far as the request tells."""
    return host_of(request.url)


def lane_and_deadline_of(request: FetchRequest) -> str:
    """The lane (`h`, `l`, or nothing for the default one) and the deadline in ms, as `lua/enqueue.lua` takes them."""
    if request.deadline is None:
        return ""
    return str(round(request.deadline.timestamp() * 1000))

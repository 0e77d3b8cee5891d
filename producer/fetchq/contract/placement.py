"""What a job's limits belong to: its limit key, by default the host of its URL (`lua/frontier.lua`)."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from .priority import Priority
from .request import FetchRequest

KEY_PREFIX: Final = "key:"
"""In front of a limit key that a request names. No host has a colon in this place."""

BY_FIELD: Final = "@by"
"""Field of the limits: what they belong to where a request names nothing, if that is not the host. No host has an @."""

_LANES: Final = {Priority.HIGH: "h", Priority.DEFAULT: "", Priority.LOW: "l"}


def host_of(url: str) -> str:
    """The host in a URL that ada has serialised: `https://[::1]:8080/` -> `[::1]`, `http://a.example./` -> `a.example`.

    Only of such a URL (WHATWG URL, section 4.5): scheme and host are in lower case, there is no user name, and a path.
    """
    start = url.find("://") + 3
    authority = url[start : url.find("/", start)]
    if authority.endswith("]"):
        return authority
    host, colon, _ = authority.rpartition(":")
    host = host if colon else authority
    return host.removesuffix(".") or host


def limit_key_of(request: FetchRequest) -> str:
    """The key under which a request is limited, as far as the request tells."""
    return host_of(request.url) if request.limit_key is None else f"{KEY_PREFIX}{request.limit_key}"


def lane_and_deadline_of(request: FetchRequest) -> str:
    """The lane (`h`, `l`, or nothing for the default one) and the deadline in ms, as `lua/enqueue.lua` takes them."""
    lane = _LANES[request.priority]
    return lane if request.deadline is None else f"{lane}{deadline_ms_of(request.deadline)}"


def deadline_ms_of(deadline: datetime) -> int:
    """A deadline in ms since the epoch."""
    return round(deadline.timestamp() * 1000)

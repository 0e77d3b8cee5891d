"""What a person may have meant by a text that is not a URL."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from fetchq import InvalidRequest
from fetchq.contract.urls import host_of, normalise_url

_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:(?!\d{1,5}(?:[/?#]|$))")
"""A scheme, not a host before its port."""
_LOCAL: Final = re.compile(r"localhost(:|/|$)|[\d.]+(:|/|$)|\[|[^/]*:\d")
"""Hosts that rarely serve https: this machine, addresses, and hosts with a port."""


def hint_for(text: str, *, may_be_file: bool) -> str:
    """The end of the sentence about a text that is not a URL; empty if nothing similar comes to mind."""
    if may_be_file and text == "-":
        return "; to read URLs from stdin, use --from -"
    if may_be_file and "\0" not in text and len(text) < 4096 and Path(text).is_file():
        return f"; to read URLs from that file, use --from {text}"
    host = text.strip().removeprefix("//")
    if _SCHEME.match(host) and not host.startswith(("http:", "https:")):
        return ""
    scheme = "http" if _LOCAL.match(host) else "https"
    try:
        url = normalise_url(f"{scheme}://{host}")
    except InvalidRequest:
        return ""
    name = host_of(url)
    return f"; did you mean {url}?" if "." in name or ":" in name or name == "localhost" else ""

"""What a robots.txt says to one crawler (RFC 9309). Pure: text in, a verdict on a URL out.

Before protego parses a file, all groups but the one that applies are left out. That is RFC 9309's own rule (section
2.2.1: the product token matches whole), and it bounds what a hostile file can cost: protego gives each rule of a group
to every agent that the group names, which for half a megabyte of names and rules is hundreds of millions.
"""

from __future__ import annotations

import re
from typing import Final

from protego import Protego

MAX_ROBOTS_BYTES: Final = 500 << 10
"""How much of a file is read (RFC 9309, section 2.5)."""
MAX_RULES: Final = 10_000
"""Of a group; what a file has beyond them is left out. Files with more are made to cost, and not to be obeyed."""
MAX_CRAWL_DELAY_S: Final = 3600.0
"""A file that asks for more patience is given this much."""

_PRODUCT_TOKEN: Final = re.compile(r"[A-Za-z_-]+")
_AGENT: Final = re.compile(r"user[- ]?agent\s*[:\s]\s*(.*)", re.IGNORECASE)
_RULE: Final = re.compile(r"(?:(allow)|(dis+al+ow|diasllow|disallaw)|(crawl[- ]delay))\s*[:\s]\s*(.*)", re.IGNORECASE)
"""The directives of a group, and how they are commonly misspelt."""


def product_token(user_agent: str) -> str:
    """The name by which a crawler looks for its group, in lower case (RFC 9309, section 2.2.1).

    Empty for a user agent that begins with none: then the group for all holds.
    """
    found = _PRODUCT_TOKEN.match(user_agent)
    return found[0].lower() if found else ""


def rules_for(token: str, text: str) -> str:
    """The rules that apply to `token`, one a line: those of its own groups, else those of the groups for all."""
    own: dict[str, None] = {}
    general: dict[str, None] = {}
    named = in_own = in_general = in_agents = False
    for raw in text.splitlines():
        line = raw.partition("#")[0].strip(" \t\ufeff")
        if agent := _AGENT.match(line):
            if not in_agents:
                in_agents, in_own, in_general = True, False, False
            name = agent[1].strip().lower()
            in_general = in_general or name == "*"
            in_own = in_own or (token != "" and product_token(name) == token)
            named = named or in_own
        elif rule := _RULE.match(line):
            in_agents = False
            value = rule[4].strip()
            if not value:
                continue  # "Disallow:" with nothing forbids nothing
            directive = "Allow" if rule[1] else "Disallow" if rule[2] else "Crawl-delay"
            for group, chosen in ((own, in_own), (general, in_general)):
                if chosen and len(group) < MAX_RULES:
                    group[f"{directive}: {value}"] = None
    return "\n".join(own if named else general)


class RobotsRules:
    """The rules of one origin. `text` is what `rules_for` gave."""

    __slots__ = ("_parsed", "crawl_delay_s", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._parsed = Protego.parse(f"User-agent: *\n{text}") if text else None
        delay_s = self._parsed.crawl_delay("*") if self._parsed is not None else None
        self.crawl_delay_s: float | None = None if delay_s is None else min(delay_s, MAX_CRAWL_DELAY_S)

    def allow(self, url: str) -> bool:
        """Whether a serialised URL of the origin may be fetched: the longest rule that matches decides."""
        return self._parsed is None or self._parsed.can_fetch(url, "*")

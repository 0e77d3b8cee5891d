"""The rules of a robots.txt for one crawler (RFC 9309). Pure: text in, a verdict on a URL out.

All groups but the one that applies are removed before protego parses the file. This follows RFC 9309 (section 2.2.1:
the product token matches as a whole), and limits the cost of a hostile file: protego copies each rule of a group to
each agent of the group, which makes hundreds of millions of copies for half a megabyte of agents and rules.
"""

from __future__ import annotations

import re
from typing import Final

from protego import Protego

MAX_ROBOTS_BYTES: Final = 500 << 10
"""How much of a file is read (RFC 9309, section 2.5)."""
MAX_RULES: Final = 10_000
"""Of a group; further ones are ignored. Only a hostile file has more."""
MAX_CRAWL_DELAY_S: Final = 3600.0
"""A longer Crawl-delay is cut to this."""

_PRODUCT_TOKEN: Final = re.compile(r"[A-Za-z_-]+")
_AGENT: Final = re.compile(r"user[- ]?agent\s*[:\s]\s*(.*)", re.IGNORECASE)
_RULE: Final = re.compile(r"(?:(allow)|(dis+al+ow|diasllow|disallaw)|(crawl[- ]delay))\s*[:\s]\s*(.*)", re.IGNORECASE)
"""The directives of a group and their common misspellings."""


def product_token(user_agent: str) -> str:
    """The product token of a User-Agent, in lower case, by which a crawler finds its group (RFC 9309, section 2.2.1).

    Empty for a User-Agent without one: then the group `*` applies.
    """
    found = _PRODUCT_TOKEN.match(user_agent)
    return found[0].lower() if found else ""


def rules_for(token: str, text: str) -> str:
    """The rules that apply to `token`, one per line: those of its own groups, else those of the groups `*`."""
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
                continue  # an empty "Disallow:" denies nothing
            directive = "Allow" if rule[1] else "Disallow" if rule[2] else "Crawl-delay"
            for group, chosen in ((own, in_own), (general, in_general)):
                if chosen and len(group) < MAX_RULES:
                    group[f"{directive}: {value}"] = None
    return "\n".join(own if named else general)


class RobotsRules:
    """The parsed rules of one origin. `text` is a value of `rules_for`."""

    __slots__ = ("_parsed", "crawl_delay_s", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._parsed = Protego.parse(f"User-agent: *\n{text}") if text else None
        delay_s = self._parsed.crawl_delay("*") if self._parsed is not None else None
        self.crawl_delay_s: float | None = None if delay_s is None else min(delay_s, MAX_CRAWL_DELAY_S)

    def allow(self, url: str) -> bool:
        """Whether a serialised URL of the origin may be fetched: the longest matching rule decides."""
        return self._parsed is None or self._parsed.can_fetch(url, "*")

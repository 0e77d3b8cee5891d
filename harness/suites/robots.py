"""Runs the cases of Google's robots.txt parser (github.com/google/robotstxt) on fetchq's.

    python -m harness.suites.robots PATH    # a checkout, or robots_test.cc itself

The cases are read from the C++ source by patterns. Those that are not run are counted by their reason.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from fetchq_worker.fetch.robots.rules import RobotsRules, directive_of, lines_of, product_token, rules_for

DIFFERENCES: Final = {
    ("ID_Encoding", "/foo/bar/baz"): "RFC 9309, section 2.2.2: %62%61%7A is unreserved, and decoded for the comparison",
    ("ID_Encoding", "/foo/bar/ツ"): "a URL is serialised, so percent-encoded, before rules are applied to it",
    ("GoogleOnly_IndexHTMLisDirectory", "/allowed-slash/"): "Google's own: index.html at the end of a rule means /",
}
"""The cases that fetchq decides otherwise, by test and end of the URL, and why."""

_LITERAL: Final = r'(?:"(?:\\.|[^"\\])*"\s*)+'
_STATEMENT: Final = re.compile(
    rf"""
      (?:absl::string_view|std::string|char)\s+(?P<name>\w+)(?:\[\])?\s*=\s*(?P<value>{_LITERAL});
    | EXPECT_(?P<allowed>TRUE|FALSE)\(\s*IsUserAgentAllowed\(\s*
        (?P<file>\w+|{_LITERAL}),\s*(?P<agent>\w+|{_LITERAL}),\s*(?P<url>\w+|{_LITERAL})\)\s*\);
    | EXPECT_(?P<valid>TRUE|FALSE)\(\s*RobotsMatcher::IsValidUserAgentToObey\(\s*(?P<token>{_LITERAL})\s*\)\s*\);
    | ParseRobotsTxt\((?P<parsed>\w+),
    | EXPECT_EQ\((?P<count>\d+),\s*report\.(?P<figure>\w+)\(\)\);
    | TestPath\((?P<whole>{_LITERAL}),\s*(?P<path>{_LITERAL})\);
    | TestEscape\((?P<pattern>{_LITERAL}),\s*(?P<escaped>{_LITERAL})\);
    | (?P<skipped>EXPECT_EQ\(sitemap|EXPECT_\w+)
    """,
    re.VERBOSE,
)
_COMMENT: Final = re.compile(rf"({_LITERAL})|//[^\n]*")


class Case(NamedTuple):
    test: str
    what: str
    expected: object
    got: object


COMPUTED: Final = "the input is computed in C++"
SITEMAP: Final = "sitemaps are not read"
NO_URL: Final = "the input is no serialised URL"


def cases_of(source: str) -> Iterator[Case | str]:
    """The cases of robots_test.cc, or why one was not run."""
    source = _COMMENT.sub(lambda found: found[1] or "", source)
    for block in re.split(r"^TEST\(", source, flags=re.MULTILINE)[1:]:
        test = block.partition(")")[0].partition(",")[2].strip()
        if "StrAppend" in block and "long" in block:
            yield from [COMPUTED] * block.count("EXPECT_")
        else:
            yield from _cases_of_test(test, block)


def _cases_of_test(test: str, block: str) -> Iterator[Case | str]:
    known: dict[str, bytes] = {}
    parsed = b""
    for found in _STATEMENT.finditer(block):
        if found["name"]:
            known[found["name"]] = _text(found["value"], known)
        elif found["allowed"]:
            file, agent, url = (_text(found[name], known) for name in ("file", "agent", "url"))
            rules = RobotsRules(rules_for(agent.decode().lower(), file))
            yield Case(test, url.decode(), found["allowed"] == "TRUE", rules.allow(url.decode()))
        elif found["valid"]:
            token = _text(found["token"], known).decode()
            is_valid = token != "" and product_token(token) == token.lower()
            yield Case(test, token, found["valid"] == "TRUE", is_valid)
        elif found["parsed"]:
            parsed = known.get(found["parsed"], b"")
        elif found["count"]:
            figure = found["figure"]
            yield Case(test, f"{figure} of {parsed[:40]!r}", int(found["count"]), _figures(parsed)[figure])
        elif found["whole"]:
            yield _case_of_path(test, _text(found["whole"], known).decode(), _text(found["path"], known).decode())
        elif found["pattern"]:
            pattern = _text(found["pattern"], known)
            rule = rules_for("", b"User-agent: *\nDisallow: " + pattern).removeprefix("Disallow: ")
            yield Case(test, pattern.decode(), _text(found["escaped"], known).decode(), rule)
        elif found["skipped"]:
            yield SITEMAP if "sitemap" in found["skipped"] else COMPUTED


def _case_of_path(test: str, url: str, path: str) -> Case | str:
    """The case passes if a rule for exactly that path applies to the URL."""
    if "://" not in url:
        return NO_URL
    return Case(test, url, path, path if not RobotsRules(f"Disallow: {path}$").allow(url) else "another path")


def _figures(data: bytes) -> dict[str, int]:
    lines = lines_of(data)
    valid = [number for number, line in enumerate(lines, 1) if directive_of(line) is not None]
    unknown = sum(b":" in line and directive_of(line) is None for line in lines)
    return {"valid_directives": len(valid), "unknown_directives": unknown, "last_line_seen": max(valid, default=0)}


def _text(source: str, known: dict[str, bytes]) -> bytes:
    """The bytes of a variable, or of C++ string literals side by side."""
    if not source.startswith('"'):
        return known[source]
    literals = re.findall(r'"(?:\\.|[^"\\])*"', source)
    return b"".join(ast.literal_eval(f"b{_ascii(literal)}") for literal in literals)


def _ascii(literal: str) -> str:
    return "".join(char if char.isascii() else "".join(f"\\x{byte:02x}" for byte in char.encode()) for char in literal)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m harness.suites.robots", description=__doc__)
    parser.add_argument("path", type=Path, help="a checkout of google/robotstxt, or robots_test.cc")
    path: Path = parser.parse_args().path
    source = (path / "robots_test.cc" if path.is_dir() else path).read_text()
    cases = list(cases_of(source))
    run = [case for case in cases if isinstance(case, Case)]
    different = [case for case in run if case.expected != case.got]
    unexplained = 0
    for case in different:
        reasons = (why for (test, end), why in DIFFERENCES.items() if case.test == test and case.what.endswith(end))
        why = next(reasons, "")
        unexplained += not why
        print(f"{case.test}: {case.what!r}: Google {case.expected}, fetchq {case.got}: {why or 'NOT EXPLAINED'}")
    print(f"{len(run) - len(different)} of {len(run)} cases as Google's")
    for reason, count in Counter(case for case in cases if isinstance(case, str)).items():
        print(f"{count} not run: {reason}")
    return 1 if unexplained or not run else 0


if __name__ == "__main__":
    sys.exit(main())

"""The rules of a robots.txt by RFC 9309: groups, patterns, percent-encoding, and the cost of hostile files."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchq.contract.urls import normalise_url
from fetchq_worker.fetch.robots.rules import (
    MAX_LINE_BYTES,
    MAX_ROBOTS_BYTES,
    MAX_RULES,
    RobotsRules,
    product_token,
    rules_for,
)


def _rules(text: str | bytes, token: str = "fetchq") -> RobotsRules:
    return RobotsRules(rules_for(token, text.encode() if isinstance(text, str) else text))


def _allows(rules: str | bytes, path: str) -> bool:
    """Whether the rules of the group `*` allow a path."""
    rules = rules.encode() if isinstance(rules, str) else rules
    return _rules(b"User-agent: *\n" + rules).allow(normalise_url(f"http://h{path}"))


def test_the_user_agent_begins_with_the_product_token() -> None:
    assert product_token("My-Service_x/2.0 (+mailto:me@example.org)") == "my-service_x"
    assert product_token("2bot/1") == ""


@pytest.mark.parametrize(
    ("agents", "applies"),
    [
        ("User-agent: fetchq", True),
        ("user-AGENT : FetchQ/1.0 # us", True),
        ("User-agent: fetchq*", True),
        ("User-agent: FetchQ bot", True),
        ("User-agent: other\nUser-agent: fetchq", True),
        ("User-agent: fetchq\n\nSitemap: http://x/\n\nUser-agent: other", True),
        ("User-agent: fetchq\nCrawl-delay: 5\nUser-agent: other", True),
        ("User-agent: fetchq\nunknown: 1\nno directive at all\nUser-agent: other", True),
        ("useragent: fetchq", True),
        ("user agent: fetchq", True),
        ("user-agent fetchq", True),
        ("User-agent: fetch", False),
        ("User-agent: fetchqs", False),
        ("User-agent: my fetchq", False),
        ("User-agent: *\nUser-agent: other", False),
        ("User-agent: fetchq\nDisallow:\nUser-agent: other", False),
        ("Disallow: /", False),
    ],
)
def test_a_group_matches_the_whole_product_token(agents: str, applies: bool) -> None:
    rules = _rules(f"{agents}\nDisallow: /for-us\n\nUser-agent: *\nDisallow: /for-all\n")
    named = applies or "fetchq\nDisallow" in agents  # then the group `*` does not apply
    assert rules.allow("http://h/for-all") == named
    assert rules.allow("http://h/for-us") == (not applies and "*\n" not in agents)


def test_two_groups_of_one_agent_are_merged() -> None:
    rules = _rules(
        "User-agent: fetchq\nDisallow: /a\n\nUser-agent: x\nDisallow: /\n\nUser-agent: fetchq\nDisallow: /b\n"
    )
    assert [rules.allow(f"http://h/{path}") for path in "abc"] == [False, False, True]


def test_a_star_with_more_words_is_the_group_of_all() -> None:
    assert not _rules("User-agent: * everyone\nDisallow: /\n").allow("http://h/")
    assert _rules("User-agent: *bot\nDisallow: /\n").allow("http://h/")


@pytest.mark.parametrize("char", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
def test_a_line_ends_with_cr_lf_or_crlf_only(char: str) -> None:
    assert _allows(f"# a comment{char}Disallow: /\n", "/a")
    for end in ("\r", "\n", "\r\n"):
        assert not _allows(f"# a comment{end}Disallow: /", "/a")


def test_a_byte_order_mark_is_skipped_at_the_beginning_only() -> None:
    for mark in (b"\xef\xbb\xbf", b"\xef\xbb", b"\xef"):
        assert not _rules(mark + b"User-agent: *\nDisallow: /").allow("http://h/")
    assert _allows(b"\xef\xbb\xbfDisallow: /\n", "/a")


@pytest.mark.parametrize(
    ("rules", "path", "allowed"),
    [
        ("Disallow: /a\nAllow: /a/b", "/a/b/c", True),  # the longest match decides
        ("Disallow: /a/b\nAllow: /a", "/a/b/c", False),
        ("Allow: /a\nDisallow: /a", "/a", True),  # of equally long ones, Allow wins
        ("Disallow: /a*c\nAllow: /abc", "/abc", True),
        ("Allow: /a*c\nDisallow: /abc", "/abc", True),
        ("Allow: /page\nDisallow: /*.htm", "/page.htm", False),
        ("Allow: /$\nDisallow: /", "/", True),
        ("Allow: /$\nDisallow: /", "/a", False),
        ("Disallow: /*.php$", "/x/y.php", False),
        ("Disallow: /*.php$", "/x/y.php?z", True),
        ("Disallow: /a*b*c$", "/abbcbc", False),
        ("Disallow: /a*bc*c$", "/abc", True),  # the pieces must not overlap
        ("Disallow: /a$b", "/a$b", False),  # not the end of the pattern: a character
        ("Disallow: /a%24", "/a$b", False),
        ("Disallow: /a%2A", "/a*b", False),
        ("Disallow: /a%2A", "/axb", True),
        ("Disallow: *", "/a", False),
        ("Disallow: *a$", "/ba", False),
        ("Disallow: $", "/", True),
        ("Disallow: /caf%C3%A9", "/caf%c3%a9", False),
        ("Disallow: /café", "/caf%C3%A9", False),
        (b"Disallow: /caf\xe9", "/caf%E9", False),
        ("Disallow: /%62%61%7a", "/baz", False),
        ("Disallow: /baz%7E", "/b%61z~", False),
        ("Disallow: /a?x=%26", "/a?x=&", True),  # a reserved character is another one when it is encoded
        ("Disallow: /a?x=&", "/a?x=%26", True),
        ("Disallow: /a%2Fb", "/a/b", True),
        ("Disallow: /a%2fb", "/a%2Fb", False),
        ("Disallow: /a b", "/a b", False),
        ("Disallow: /a{b}|^", "/a{b}|^", False),
        ("Disallow: /?q='a'", "/?q='a'", False),
        ("Disallow: /it's", "/it's", False),
        ("Disallow: /100%", "/100%", False),
        ("Disallow:", "/", True),
        ("Disallow: /", "/robots.txt", True),
        ("Disallow: /", "/robots.txt?x", False),
        ("Disallow: /?q=", "/?q=1", False),
        ("Disallow: /a#b", "/ab", False),
        ("Disallow: a", "/a", True),
        ("disallow /a", "/a", False),
        ("disallow all of it", "/a", True),
        ("Dissallow: /a", "/a", False),
        ("DISALOW : /a", "/a", False),
        ("nonsense\n\x00\x01\nDisallow: /x", "/x", False),
        ("<html>Disallow: /</html>", "/", True),
        ("Disallow: /A", "/a", True),
    ],
)
def test_rules_follow_the_rfc(rules: str | bytes, path: str, allowed: bool) -> None:
    assert _allows(rules, path) == allowed


@given(st.lists(st.sampled_from("ab*"), max_size=6).map("".join), st.booleans(), st.text("ab", max_size=8))
def test_wildcards_match_as_a_regular_expression_would(pattern: str, anchored: bool, path: str) -> None:
    matched = _as_expression(pattern, anchored, path)
    assert _allows(f"Disallow: /{pattern}{'$' if anchored else ''}", f"/{path}") == (not matched)


def _as_expression(pattern: str, anchored: bool, path: str) -> bool:
    """By dynamic programming over the prefixes of the path, as Google's matcher does."""
    ends = {0}
    for char in pattern:
        if char == "*":
            ends = set(range(min(ends), len(path) + 1)) if ends else ends
        else:
            ends = {end + 1 for end in ends if path[end : end + 1] == char}
    return (len(path) in ends) if anchored else bool(ends)


@given(st.binary(max_size=200), st.text(max_size=40))
def test_any_file_can_be_read_and_what_is_kept_of_it_means_the_same(data: bytes, path: str) -> None:
    kept = rules_for("fetchq", b"User-agent: *\nDisallow: " + data)
    url = normalise_url(f"http://h/{path}")
    assert kept.isascii()
    again = rules_for("fetchq", f"User-agent: *\n{kept}".encode())
    assert RobotsRules(again).allow(url) == RobotsRules(kept).allow(url)


def test_a_line_is_cut_where_google_cuts_it() -> None:
    long = "/" + "a" * MAX_LINE_BYTES
    assert not _rules(f"User-agent: *\nDisallow: {long}/b").allow(f"http://h{long}/c")


def test_a_crawl_delay_is_a_time_and_a_long_one_is_cut() -> None:
    for value, delay_s in (("2.5", 2.5), ("0", 0.0), ("1e300", 3600.0), ("inf", None), ("-1", None), ("soon", None)):
        assert _rules(f"User-agent: *\nCrawl-delay: {value}").crawl_delay_s == delay_s
    assert _rules("User-agent: *\nCrawl-delay: x\ncrawl-delay : 3 # s\nCrawl-delay: 4").crawl_delay_s == 3.0
    assert _rules("User-agent: *\nDisallow: /a\nCrawl-delay: 7\nDisallow: /b").allow("http://h/b") is False


def _filled(line: str) -> str:
    return line * (MAX_ROBOTS_BYTES // len(line))


@pytest.mark.parametrize(
    "text",
    [
        _filled("User-agent: a{n}\n"),
        "".join(f"User-agent: a{n}\n" for n in range(18_000)) + "".join(f"Disallow: /{n}\n" for n in range(16_000)),
        "User-agent: *\nDisallow: " + _filled("*a"),
        "User-agent: *\n" + "".join(f"Disallow: {'*a' * 100}{n}\n" for n in range(2_400)),
        "User-agent: *\n" + "".join(f"Disallow: *{n}*b$\n" for n in range(20_000)),
        "User-agent: *\n" + "".join(f"Disallow: *{'a' * 15}b{n}\n" for n in range(20_000)),
        "User-agent: *\nDisallow: " + _filled("%41"),
        "User-agent: *\n" + _filled("Disallow: /%41%41%41%41%41%41%41%41\n"),
        "User-agent" + _filled(" "),
        _filled("\n"),
        _filled("\x00\xff\x85\u2028"),
    ],
    ids=[
        "agents",
        "agents by rules",
        "wildcards",
        "many wildcards",
        "many anchors",
        "many near misses",
        "one long rule of escapes",
        "many rules of escapes",
        "blanks",
        "empty",
        "binary",
    ],
)
def test_a_hostile_file_costs_bounded_time(text: str) -> None:
    began = time.process_time()
    rules = _rules(text)
    for _ in range(3):
        rules.allow("http://h/" + "a" * 16_000)
    assert time.process_time() - began < 3.0
    assert rules.text.count("\n") <= MAX_RULES

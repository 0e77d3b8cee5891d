"""The public suffix list."""

from __future__ import annotations

import pytest

from fetchq_worker.politeness.public_suffixes import is_public_suffix, registrable_domain


@pytest.mark.parametrize(
    ("name", "is_suffix", "registrable"),
    [
        ("com", True, None),
        ("co.uk", True, None),
        ("github.io", True, None),
        ("foo.kawasaki.jp", True, None),
        ("city.kawasaki.jp", False, "city.kawasaki.jp"),
        ("unlisted", True, None),
        ("www.example.co.uk", False, "example.co.uk"),
        ("a.me.github.io", False, "me.github.io"),
    ],
)
def test_owners_are_told_apart_below_public_suffixes(name: str, is_suffix: bool, registrable: str | None) -> None:
    assert is_public_suffix(name) == is_suffix
    assert registrable_domain(name) == registrable

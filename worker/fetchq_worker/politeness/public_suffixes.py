"""The public suffix list (publicsuffix.org), with its private section: `co.uk`, `github.io`."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList


def is_public_suffix(name: str) -> bool:
    """Whether names below this one belong to different owners. A top-level domain that is not in the list is one."""
    return _suffixes().is_public(name)


def registrable_domain(host: str) -> str | None:
    """The public suffix of a name and one label more; None if the name is itself a public suffix."""
    return _suffixes().privatesuffix(host)


@cache
def _suffixes() -> PublicSuffixList:
    from publicsuffixlist import PublicSuffixList  # noqa: PLC0415 - parses 300 KB, which few workers need

    return PublicSuffixList()

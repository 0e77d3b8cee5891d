"""Why a body cannot be decoded."""

from __future__ import annotations


class BrokenCoding(ValueError):
    """The body does not have the coding that its headers name."""


class CodingTooLarge(ValueError):
    """The output of a decoding step exceeds the limit."""

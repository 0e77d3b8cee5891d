"""JSON by RFC 8259, with all that is legal in it."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from .charset import decode_text


def parse_json(body: bytes, charset: str | None) -> Any:
    """The objects of a JSON body: what Python's `json` gives, without `NaN` and `Infinity`, which are not JSON.

    Raises `ValueError` for what is not JSON, and `RecursionError` for what is nested too deep.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        # msgspec, ten times as fast, refuses escapes of lone surrogates, numbers beyond a float and byte order marks.
        try:
            return json.loads(text_of_json(body, charset), parse_constant=_refuse)
        except ValueError as other:
            raise ValueError(str(problem if isinstance(problem, msgspec.DecodeError) else other)) from None


def text_of_json(body: bytes, charset: str | None) -> str:
    """The text of a JSON body.

    It is UTF-8 (RFC 8259, section 8.1), or UTF-16 or UTF-32 as its first bytes show; `charset` counts only if it is
    neither.
    """
    try:
        return body.decode(json.detect_encoding(body))
    except UnicodeDecodeError:
        return decode_text(body, charset)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")

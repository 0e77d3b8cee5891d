"""Encodes a request body from plain values: JSON (RFC 8259) or a form (URL standard, "urlencoded serializing")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from fetchq.errors import InvalidRequest

from .validation import headers_of

JSON_TYPE: Final = "application/json"
FORM_TYPE: Final = "application/x-www-form-urlencoded"

FormFields = Mapping[str, object] | Iterable[tuple[str, object]]
"""Names and values; pairs allow a name to repeat. A value is a string, a number or a bool."""

_SOURCES: Final = ("body", "json", "form")


def with_body(options: Mapping[str, Any], method: str, headers: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """`options` with `json` or `form` encoded as `body`, and its Content-Type unless the headers have one.

    `method` and `headers` are the defaults where `options` have none. A default of GET becomes POST.
    """
    made = dict(options)
    given = [name for name in _SOURCES if made.get(name) is not None]
    if len(given) > 1:
        raise InvalidRequest(given[1], f"cannot be combined with {given[0]}")
    json, form = made.pop("json", None), made.pop("form", None)
    if json is None and form is None:
        return made
    body, content_type = (_json(json), JSON_TYPE) if form is None else (_form(form), FORM_TYPE)
    pairs = headers_of(made["headers"]) if "headers" in made else headers
    if not any(name.lower() == "content-type" for name, _ in pairs):
        pairs = (*pairs, ("Content-Type", content_type))
    if "method" not in made and method == "GET":
        made["method"] = "POST"
    return {**made, "body": body, "headers": pairs}


def _json(value: object) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as problem:
        raise InvalidRequest("json", str(problem)) from problem


def _form(form: object) -> bytes:
    if isinstance(form, Mapping):
        form = form.items()
    if isinstance(form, str | bytes) or not isinstance(form, Iterable):
        raise InvalidRequest("form", "takes pairs of name and value")
    pairs: list[tuple[str, str]] = []
    for pair in form:
        match pair:
            case [str(name), bool(flag)]:
                pairs.append((name, "true" if flag else "false"))
            case [str(name), str() | int() | float() as value]:
                pairs.append((name, str(value)))
            case _:
                raise InvalidRequest("form", "takes pairs of a name and a string, number or flag")
    try:
        return urlencode(pairs).encode("ascii")
    except UnicodeEncodeError as problem:
        raise InvalidRequest("form", "holds text that is not valid Unicode") from problem

"""What a later version wrote, as far as this one can read it: fields that it does not know are passed over, and an
outcome that it does not know is an error of the closed set, never a success."""

from __future__ import annotations

from typing import Any, Final

from .status import FetchStatus

_KNOWN: Final = frozenset(FetchStatus)
_SHOWN_CHARS: Final = 40


def with_known_outcomes(value: Any) -> Any:
    """A decoded result, or record of attempts, whose unknown outcomes are INTERNAL_ERROR and say what they were."""
    if not isinstance(value, dict):
        return value
    value = _known(value)
    if isinstance(attempts := value.get("attempts"), list):
        value["attempts"] = [_known(attempt) if isinstance(attempt, dict) else attempt for attempt in attempts]
    return value


def _known(value: dict[Any, Any]) -> dict[Any, Any]:
    status = value.get("status")
    if not isinstance(status, str) or status in _KNOWN:
        return value
    error = f"the outcome {status[:_SHOWN_CHARS]!r} is one of a later version of fetchq"
    if isinstance(why := value.get("error"), str):
        error = f"{error}: {why}"
    return {**value, "status": FetchStatus.INTERNAL_ERROR.value, "error": error}

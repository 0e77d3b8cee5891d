"""docs/observability.md describes each event, with its fields."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from fetchq_worker.telemetry.events import EVENTS, Event

PAGE = Path(__file__).parents[3] / "docs" / "observability.md"


def _documented() -> dict[str, list[str]]:
    text = PAGE.read_text(encoding="utf-8").split("<!-- table: events -->\n", 1)[1].split("\n\n", 1)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.strip().splitlines()[2:]]
    return {name.strip("`"): re.findall(r"`(\w+)`", fields) for name, fields, _ in rows}


def test_the_table_has_each_event_with_its_fields_in_their_order() -> None:
    assert _documented() == {event.__name__: list(event.__struct_fields__) for event in EVENTS}


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_cannot_be_changed_and_takes_its_fields_by_name(event: type[Event]) -> None:
    assert event.__struct_config__.frozen
    fields = msgspec.structs.fields(event)
    assert all(field.required for field in fields), "a place that publishes it must think of each"
    with pytest.raises(TypeError, match="positional"):
        event("a")

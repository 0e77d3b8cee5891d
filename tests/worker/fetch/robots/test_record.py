"""When a robots.txt that cannot be had is requested again, and what is known in the meantime."""

from __future__ import annotations

from itertools import pairwise

import pytest

from fetchq import FetchStatus
from fetchq_worker.fetch.robots.record import (
    STALE_TTL_S,
    Failed,
    RobotsFailure,
    RobotsRecord,
    decode_record,
    encode_record,
    with_failure,
    with_rules,
)

BUSY = RobotsFailure(FetchStatus.HTTP_ERROR, "the server responded 503", 503)
NOW_S = 1_800_000_000.0


def _failures(times: int) -> list[RobotsRecord]:
    """The records after each of several failures, each as soon as robots.txt is requested again."""
    records = [with_failure(None, Failed(BUSY), NOW_S)]
    while len(records) < times:
        records.append(with_failure(records[-1], Failed(BUSY), records[-1].until_s))
    return records


def test_the_waits_double_up_to_a_minute() -> None:
    starts = [NOW_S, *(record.until_s for record in _failures(2000))]
    waits = [after - before for before, after in pairwise(starts)]
    assert waits[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert max(waits) == 60


@pytest.mark.parametrize(("asked_s", "wait_s"), [(0.0, 1.0), (0.5, 1.0), (30.0, 30.0), (1e9, 3600.0), (None, 1.0)])
def test_a_retry_after_makes_the_wait_longer(asked_s: float | None, wait_s: float) -> None:
    assert with_failure(None, Failed(BUSY, asked_s), NOW_S).until_s == NOW_S + wait_s


def test_a_failure_lasts_since_its_first_request_and_is_forgotten_after_an_hour_without_one() -> None:
    record = _failures(4)[-1]
    unavailable = record.unavailable(record.until_s)
    assert unavailable is not None
    assert (unavailable.lasts_s, unavailable.again_in_s) == (15.0, 0.0)
    assert str(unavailable) == "robots.txt cannot be had: the server responded 503"
    later = with_failure(record, Failed(BUSY), record.until_s + 3601)
    assert (later.failures, later.since_s) == (1, record.until_s + 3601)


def test_rules_are_used_for_a_day_while_newer_ones_cannot_be_had() -> None:
    record = with_rules("Disallow: /a", NOW_S)
    failed = with_failure(record, Failed(BUSY), record.until_s)
    assert failed.rules == "Disallow: /a"
    assert failed.unavailable(record.until_s) is None
    too_old = with_failure(failed, Failed(BUSY), NOW_S + STALE_TTL_S + 1)
    assert too_old.rules == ""
    assert too_old.unavailable(NOW_S + STALE_TTL_S + 1) is not None


def test_an_empty_file_is_known_too() -> None:
    record = with_rules("", NOW_S)
    assert with_failure(record, Failed(BUSY), record.until_s).unavailable(record.until_s) is None


def test_a_record_is_read_as_it_was_written_and_nonsense_is_no_record() -> None:
    for record in (with_rules("Disallow: /a", NOW_S), with_failure(None, Failed(BUSY), NOW_S)):
        assert decode_record(encode_record(record), NOW_S) == record
    assert [decode_record(value, NOW_S) for value in (None, b"\xff", b"\x80")] == [None] * 3


def test_a_record_from_the_future_is_that_of_a_wrong_clock() -> None:
    value = encode_record(with_failure(None, Failed(BUSY), NOW_S))
    assert decode_record(value, NOW_S - 1) is not None
    assert decode_record(value, NOW_S - 60) is None

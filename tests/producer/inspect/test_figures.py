"""The figures of a queue, as they are read from Redis."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchq import FetchStatus, RedisRefused
from fetchq.inspect.figures import MAX_MINUTES, Histogram, combined, quantile, read_figures
from fetchq.store.keys import Keys
from fetchq.telemetry import figures as fields

KEYS = Keys()
MINUTE_MS = 60_000


@pytest.mark.asyncio
async def test_a_queue_without_figures_has_every_counter_at_zero(redis: Any) -> None:
    figures = await read_figures(redis, KEYS)

    totals = figures.totals
    assert totals.fetches == totals.attempts == dict.fromkeys(FetchStatus, 0)
    assert totals.responses == dict.fromkeys(("1xx", "2xx", "3xx", "4xx", "5xx"), 0)
    assert (totals.enqueued, totals.finished, totals.failed, totals.functions) == (0, 0, 0, {})
    assert quantile(totals.attempt_duration, 0.5) is None
    assert [*totals.wait, *totals.phases] == [*fields.WAIT, *fields.PHASE]
    assert figures.minutes == ()


@pytest.mark.asyncio
async def test_each_field_is_read_into_its_figure(redis: Any) -> None:
    await redis.hset(
        KEYS.metrics,
        mapping={
            "enqueued": 10, "dead_retried": 2, "fetch:OK": 5, "fetch:TIMEOUT": 1, "fetch:CANCELLED": 1,
            "job:ok:work": 3, "job:failed:work": 1, "job:cancelled:mail:send": 1, "attempt:OK": 6, "response:2xx": 7,
            "body_bytes": 1 << 40, "leases_lost": 4, "duration:0": 2, "duration:17": 1, "duration:sum": 2_500_000,
            "wait:high:1": 9, "phase:tls:5": 8,
        },
    )  # fmt: skip

    totals = (await read_figures(redis, KEYS)).totals

    assert (totals.enqueued, totals.dead_letters_retried, totals.body_bytes, totals.leases_lost) == (10, 2, 1 << 40, 4)
    assert (totals.fetches[FetchStatus.OK], totals.fetches[FetchStatus.TIMEOUT], totals.attempts["OK"]) == (5, 1, 6)  # type: ignore[index]  # a str enum
    assert totals.functions == {
        "work": {"ok": 3, "failed": 1, "cancelled": 0},
        "mail:send": {"ok": 0, "failed": 0, "cancelled": 1},
    }
    assert totals.responses["2xx"] == 7
    assert (totals.finished, totals.failed) == (12, 2)
    assert (totals.attempt_duration.counts[0], totals.attempt_duration.counts[-1]) == (2, 1)
    assert (totals.attempt_duration.count, totals.attempt_duration.sum_s) == (3, 2.5)
    assert (totals.wait["high"].counts[1], totals.phases["tls"].counts[5]) == (9, 8)


@pytest.mark.asyncio
async def test_fields_that_no_script_writes_are_left_out(redis: Any) -> None:
    await redis.hset(
        KEYS.metrics, mapping={"enqueued": "x", "fetch:NO_STATUS": 1, "job:no:x": 1, b"\xff": 1, "fetch:OK": "9" * 30}
    )

    totals = (await read_figures(redis, KEYS)).totals

    assert (totals.enqueued, totals.finished) == (0, 0)


@pytest.mark.asyncio
async def test_the_last_minutes_end_with_the_current_one(redis: Any) -> None:
    current = (await read_figures(redis, KEYS)).state.now_ms // MINUTE_MS
    for ago, enqueued in ((3, 1), (2, 2), (1, 3), (0, 4), (-1, 5)):  # another minute may begin meanwhile
        await redis.hset(f"{KEYS.minute}{current - ago}", "enqueued", enqueued)

    figures = await read_figures(redis, KEYS, minutes=2)

    shift = figures.state.now_ms // MINUTE_MS - current
    assert [minute.enqueued for minute in figures.minutes] == [2 + shift, 3 + shift, 4 + shift]
    assert [minute.elapsed_s for minute in figures.minutes[:2]] == [60, 60]
    assert figures.minutes[-1].elapsed_s == figures.state.now_ms % MINUTE_MS / 1000
    assert figures.minutes[-1].start_ms == (current + shift) * MINUTE_MS
    assert combined(figures.minutes).enqueued == 9 + 3 * shift


@pytest.mark.asyncio
@pytest.mark.parametrize("minutes", [-1, MAX_MINUTES + 1])
async def test_more_minutes_than_are_kept_are_refused(redis: Any, minutes: int) -> None:
    with pytest.raises(ValueError, match="minutes: takes 0 to 1440"):
        await read_figures(redis, KEYS, minutes=minutes)


@pytest.mark.asyncio
async def test_a_key_of_a_wrong_type_is_reported(redis: Any) -> None:
    await redis.set(KEYS.metrics, "x")
    with pytest.raises(RedisRefused, match="the key fetchq:metrics:arq:queue has figures of the queue, but is no hash"):
        await read_figures(redis, KEYS)


@pytest.mark.asyncio
async def test_the_functions_of_several_minutes_are_added(redis: Any) -> None:
    current = (await read_figures(redis, KEYS)).state.now_ms // MINUTE_MS
    await redis.hset(f"{KEYS.minute}{current - 1}", mapping={"job:ok:a": 1, "job:failed:b": 2, "duration:3": 1})
    await redis.hset(f"{KEYS.minute}{current}", mapping={"job:ok:a": 3, "fetch:OK": 1, "duration:3": 2})

    total = combined((await read_figures(redis, KEYS, minutes=3)).minutes)

    assert total.functions == {
        "a": {"ok": 4, "failed": 0, "cancelled": 0},
        "b": {"ok": 0, "failed": 2, "cancelled": 0},
    }
    assert (total.finished, total.attempt_duration.counts[3]) == (7, 3)


def test_a_quantile_is_interpolated_within_its_bucket() -> None:
    histogram = Histogram((1.0, 2.0, 4.0), (0, 4, 4, 2), 30.0)

    assert quantile(histogram, 0.0) == 1.0
    assert quantile(histogram, 0.2) == 1.5
    assert quantile(histogram, 0.4) == 2.0
    assert quantile(histogram, 0.6) == 3.0
    assert quantile(histogram, 0.99) == 4.0  # beyond the last bound


@given(counts=st.lists(st.integers(0, 1000), min_size=4, max_size=4), q=st.floats(0, 1))
def test_a_quantile_lies_in_the_bucket_of_its_rank(counts: list[int], q: float) -> None:
    histogram = Histogram((1.0, 2.0, 4.0), tuple(counts), 0.0)
    value = quantile(histogram, q)
    if value is None:
        assert sum(counts) == 0
        return
    below = sum(count for count, upper in zip(counts, (1.0, 2.0, 4.0), strict=False) if upper < value)
    assert below <= q * sum(counts) + 1e-6
    assert quantile(histogram, min(1.0, q + 0.1)) >= value  # type: ignore[operator]  # it is not empty

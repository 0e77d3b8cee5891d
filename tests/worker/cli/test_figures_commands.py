"""`fetchq status` and `fetchq metrics`: what was counted, and how fast."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser
from tests.support.metrics.promtool import problems_of
from tests.support.redis_server import RedisServer

from fetchq.store.keys import Keys

from .conftest import Fetchq, at

KEYS = Keys()
COUNTED: dict[str, int] = {
    "enqueued": 600, "fetch:OK": 1190, "fetch:TIMEOUT": 7, "fetch:CANCELLED": 2, "job:failed:work": 1,
    "attempt:OK": 1200, "body_bytes": 60_000, "duration:5": 600, "duration:10": 600,
}  # fmt: skip


@pytest.fixture
def counted(redis_server: RedisServer) -> RedisServer:
    """A queue in which each minute had the same, this one and the next included, and a job has been due for long."""
    with redis.Redis.from_url(redis_server.url) as client:
        seconds, _ = client.time()
        client.hset(KEYS.metrics, mapping={field: 10 * value for field, value in COUNTED.items()})
        for minute in range(seconds // 60 - 10, seconds // 60 + 2):
            client.hset(f"{KEYS.minute}{minute}", mapping=COUNTED)
        client.zadd(KEYS.pending, {"a": (seconds - 7300) * 1000})
    return redis_server


def _lines(text: str) -> dict[str, str]:
    return {line[:10].strip(): line[10:] for line in text.splitlines()}


def test_status_shows_what_matters_in_a_few_lines(fetchq: Fetchq, counted: RedisServer) -> None:
    lines = _lines(fetchq.run("status", environ=at(counted)).stdout)

    assert (lines["due"], lines["demand"]) == ("1", "1")
    assert lines["oldest"].startswith("due for 7,30")
    assert lines["finished"].startswith("1,200 in the last whole minute, 8 of them failed; 1,200 in the ")
    assert lines["finished"].endswith(" s since, 8 of them failed")
    assert lines["attempts"] == "p50 0.1 s, p95 2.35 s since then"


def test_status_of_an_empty_queue_leaves_out_what_there_is_not(fetchq: Fetchq, redis_server: RedisServer) -> None:
    lines = _lines(fetchq.run("status", environ=at(redis_server)).stdout)

    assert lines["finished"].startswith("0 in the last whole minute; 0 in the ")
    assert not {"oldest", "attempts", "paused"} & lines.keys()


def test_status_as_json_has_totals_and_rates(fetchq: Fetchq, counted: RedisServer) -> None:
    status = json.loads(fetchq.run("status", "--json", environ=at(counted)).stdout)

    assert (status["due"], status["demand"]) == (1, 1)
    assert status["oldest_due_s"] >= 7300
    assert (status["totals"]["enqueued"], status["totals"]["fetches"]["OK"]) == (6000, 11_900)
    assert status["totals"]["functions"] == {"work": {"ok": 0, "failed": 10, "cancelled": 0}}
    assert [rates["minutes"] for rates in status["rates"]] == [1, 5, 60]
    last, five, hour = status["rates"]
    expected: dict[str, Any] = {
        "enqueued_per_s": 10, "finished_per_s": 20, "failed_per_s": pytest.approx(8 / 60), "attempts_per_s": 20,
        "body_bytes_per_s": 1000, "attempt_p50_s": 0.1, "attempt_p95_s": pytest.approx(2.35),
    }  # fmt: skip
    assert last == {"minutes": 1, **expected}
    assert five == {"minutes": 5, **expected}
    assert hour["enqueued_per_s"] in (pytest.approx(10 * 10 / 60), pytest.approx(10 * 11 / 60))


def test_metrics_are_printed_in_each_format(fetchq: Fetchq, counted: RedisServer) -> None:
    plain = fetchq.run("metrics", environ=at(counted)).stdout
    openmetrics = fetchq.run("metrics", "--format", "openmetrics", environ=at(counted)).stdout
    figures = json.loads(fetchq.run("metrics", "--format", "json", environ=at(counted)).stdout)

    assert problems_of(plain.encode()) == ""
    assert 'fetchq_enqueued_total{queue="arq:queue"} 6000.0' in plain
    read = openmetrics_parser.text_string_to_metric_families
    assert [family.name for family in read(openmetrics)] == [  # type: ignore[no-untyped-call]
        family.name for family in parser.text_string_to_metric_families(plain)
    ]
    assert (figures["state"]["due"], figures["totals"]["enqueued"]) == (1, 6000)


def test_metrics_of_another_queue(fetchq: Fetchq, counted: RedisServer) -> None:
    plain = fetchq.run("metrics", "--queue", "x", environ=at(counted)).stdout
    assert 'fetchq_enqueued_total{queue="x"} 0.0' in plain

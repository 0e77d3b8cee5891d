"""The metrics of a queue in the formats that Prometheus reads."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser
from tests.support.metrics.promtool import problems_of
from tests.support.scripted_queue import Queue

from fetchq import FetchStatus
from fetchq.inspect.exposition import choose_format, encode, render
from fetchq.inspect.families import Family, Format, Kind, Sample
from fetchq.inspect.figures import QueueFigures, read_figures
from fetchq.inspect.queue_metrics import QUEUE_METRICS
from fetchq.inspect.workers import WorkerRecord
from fetchq.store.commands import DeadLetterCommands, Report, RetryJob, WorkerCommands
from fetchq.store.keys import Keys
from fetchq.telemetry.figures import ATTEMPT_BOUNDS_S

KEYS = Keys()
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1"
    ";q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


async def _busy(redis: Any, keys: Keys = KEYS) -> QueueFigures:
    """The figures of a queue where everything has happened."""
    counted = {
        "enqueued": 100, "dead_retried": 3, "body_bytes": 1 << 50, "leases_lost": 1, "job:ok:work": 5,
        'job:failed:a"b\\c\n': 1, "wait:high:0": 3, "wait:high:sum": 1, "phase:dns:2": 3, "phase:dns:sum": 600_000,
        **{f"fetch:{status}": number for number, status in enumerate(FetchStatus)},
        **{f"attempt:{status}": number for number, status in enumerate(FetchStatus)},
        **{f"response:{code}xx": code for code in range(1, 6)},
        **{f"duration:{bucket}": 1 for bucket in range(18)}, "duration:sum": 7_000_001,
    }  # fmt: skip
    await redis.hset(keys.metrics, mapping=counted)
    for number in range(200):
        record = WorkerRecord(id=f"w{number}", host=f"h{number}", pid=1, version="0", queue=keys.queue, concurrency=10)
        await redis.zadd(keys.workers, {record.id: 1})
        await redis.set(f"{keys.worker}{record.id}", msgspec.json.encode(record))
        await redis.zadd(keys.backlog, {f"{number}.example": number})
        await redis.zadd(keys.pending, {f"https://{number}.example/": 1})
    return await read_figures(redis, keys)


def _plain(text: bytes) -> list[Any]:
    return list(parser.text_string_to_metric_families(text.decode()))


@pytest.mark.asyncio
async def test_prometheuss_own_tool_finds_nothing_wrong(redis: Any) -> None:
    _, text = render(await _busy(redis), "text/plain")
    assert problems_of(text) == ""


@pytest.mark.asyncio
async def test_both_formats_have_the_same_series_of_the_declared_types(redis: Any) -> None:
    figures = await _busy(redis)
    plain_type, plain = render(figures, "")
    open_type, openmetrics = render(figures, OPENMETRICS)

    assert (plain_type, open_type) == (
        "text/plain; version=0.0.4; charset=utf-8",
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    )
    families = list(openmetrics_parser.text_string_to_metric_families(openmetrics.decode()))  # type: ignore[no-untyped-call]
    for parsed in (_plain(plain), families):
        types = [(family.name, family.type) for family in parsed]
        assert types == [(metric.name.removesuffix("_total"), metric.kind.value) for metric in QUEUE_METRICS]
        assert [family.documentation for family in parsed] == [metric.meaning for metric in QUEUE_METRICS]

    def samples(parsed: list[Any]) -> list[Any]:
        return sorted((s.name, sorted(s.labels.items()), s.value) for family in parsed for s in family.samples)

    assert samples(_plain(plain)) == samples(families)
    assert b"_created" not in openmetrics


@pytest.mark.asyncio
async def test_each_metric_has_the_value_of_its_figure(redis: Any) -> None:
    _, text = render(await _busy(redis))
    values = {
        (sample.name, *(value for label, value in sorted(sample.labels.items()) if label != "queue")): sample.value
        for family in _plain(text)
        for sample in family.samples
    }

    assert values["fetchq_jobs", "due"] == values["fetchq_demand",] == 200
    assert values["fetchq_hosts", "waiting"] == values["fetchq_workers",] == 200
    assert values["fetchq_worker_slots",] == 2000
    assert values["fetchq_enqueued_total",] == 100
    assert values["fetchq_fetches_total", "OK"] == 0
    assert values["fetchq_fetches_total", "HTTP_ERROR"] == 2
    assert values["fetchq_jobs_finished_total", "ok", "work"] == 5
    assert values["fetchq_jobs_finished_total", "failed", 'a"b\\c\n'] == 1
    assert values["fetchq_body_bytes_total",] == 1 << 50
    assert values["fetchq_attempt_duration_seconds_bucket", "+Inf"] == 18
    assert values["fetchq_attempt_duration_seconds_bucket", f"{ATTEMPT_BOUNDS_S[1]}"] == 2
    assert values["fetchq_attempt_duration_seconds_sum",] == 7.000001
    assert values["fetchq_phase_seconds_bucket", "0.05", "dns"] == 0
    assert values["fetchq_phase_seconds_bucket", "0.25", "dns"] == 3


@pytest.mark.asyncio
async def test_a_queue_has_at_most_150_series_whatever_hosts_urls_and_workers_it_has(redis: Any) -> None:
    figures = await _busy(redis)
    own = msgspec.structs.replace(figures.totals, functions={})
    few, all_of_them = msgspec.structs.replace(figures, totals=own), figures

    def count(figures: QueueFigures) -> int:
        return sum(len(family.samples) for family in _plain(render(figures)[1]))

    assert count(few) <= 150
    assert count(all_of_them) == count(few) + 2 * 3
    assert count(await read_figures(redis, Keys("another"))) == count(few)


@pytest.mark.asyncio
@pytest.mark.parametrize("queue", ['a"b', "a\\b", "a\nb", "a\\nb", "{a}", "ü,=", "\\"])
@pytest.mark.parametrize("accept", ["", OPENMETRICS])
async def test_the_name_of_a_queue_can_hold_any_character(redis: Any, queue: str, accept: str) -> None:
    _, text = render(await read_figures(redis, Keys(queue)), accept)

    read = openmetrics_parser.text_string_to_metric_families if accept else parser.text_string_to_metric_families
    names = {sample.labels["queue"] for family in read(text.decode()) for sample in family.samples}
    assert names == {queue}


@pytest.mark.asyncio
async def test_no_counter_goes_down_whatever_happens_to_jobs_dead_letters_and_workers(redis: Any) -> None:
    queue = Queue(redis)
    queue.now_ms = (await redis.time())[0] * 1000
    before: dict[Any, float] = {}

    async def check(*names: str) -> None:
        """Those that this step raises are `names`."""
        nonlocal before
        found = {
            (sample.name, *sample.labels.values()): sample.value
            for family in _plain(render(await read_figures(redis, KEYS))[1])
            for sample in family.samples
            if family.type != "gauge"
        }
        assert before.keys() <= found.keys()
        assert {series[0] for series, value in found.items() if value > before.get(series, 0)} == set(names)
        assert not [series for series, value in before.items() if found[series] < value]
        before = found

    await queue.enqueue(*((job_id, "", "", "") for job_id in "abcd"))
    await check("fetchq_enqueued_total")
    await queue.claim(3)
    await check()
    await queue.finish("a")
    await check("fetchq_fetches_total")
    await queue.finish_with_dead_letter("b")
    await check("fetchq_fetches_total")
    await queue.commit(("c", "w.1", "retry", 0))
    await check()
    await queue.cancel("d")
    await check("fetchq_fetches_total")
    await queue.trim_dead_letters()
    dead_letters = DeadLetterCommands(KEYS)
    [dead] = await dead_letters.read(queue.runner, [b"b"], max_bytes=1000)
    job = RetryJob(b"b", dead.ended_ms, b"payload", "", "")
    await dead_letters.retry(queue.runner, [job], now_ms=queue.now_ms)
    await check("fetchq_dead_letters_retried_total")
    report = Report(1, ["attempt:OK", 2, "duration:3", 2, "duration:sum", 5, "wait:low:0", 1, "leases_lost", 1])
    await WorkerCommands(KEYS).heartbeat(queue.runner, worker_id="w", record=b"{}", ttl_ms=1000, report=report)
    await check(
        "fetchq_attempts_total", "fetchq_leases_lost_total",
        "fetchq_attempt_duration_seconds_bucket", "fetchq_attempt_duration_seconds_count",
        "fetchq_attempt_duration_seconds_sum", "fetchq_wait_seconds_bucket", "fetchq_wait_seconds_count",
    )  # fmt: skip
    await redis.delete(KEYS.workers, *await redis.keys(f"{KEYS.minute}*"))
    await check()


@pytest.mark.parametrize(
    "accept",
    [
        OPENMETRICS,
        PROMETHEUS_2,
        PROMETHEUS_3,
        "application/openmetrics-text",
        "*/*;q=0.1, APPLICATION/OpenMetrics-Text ; q=0.2",
    ],
)
def test_openmetrics_is_written_for_clients_that_prefer_it(accept: str) -> None:
    assert choose_format(accept) is Format.OPENMETRICS


@pytest.mark.parametrize(
    "accept",
    ["", "*/*", "text/plain", "text/html,*/*;q=0.8", "application/json", "application/openmetrics-text;version=9.9",
     "application/openmetrics-text;version=x", "application/openmetrics-text;q=0", "application/openmetrics-text;q=x",
     "application/openmetrics-text;q=nan", "text/plain;q=0.9,application/openmetrics-text;q=0.8",
     "application/openmetrics-text;q=0.1,*/*", ";;;,,,=", "application/openmetrics-text;q=2"],
)  # fmt: skip
def test_all_others_get_prometheuss_own_format(accept: str) -> None:
    assert choose_format(accept) is Format.PROMETHEUS


@given(
    st.text() | st.lists(st.sampled_from([*'aq=;,*/."019 ', "text/plain", OPENMETRICS, "version=", "q="])).map("".join)
)
def test_no_accept_header_fails_a_scrape(accept: str) -> None:
    assert choose_format(accept) in Format


def test_metrics_survive_the_way_from_a_process_to_its_supervisor() -> None:
    families = [Family("fetchq_x", Kind.GAUGE, "X.", ("a",), (Sample(("b",), 1.5), Sample(("c",), 2.0)))]

    received = msgspec.json.decode(msgspec.json.encode(families), type=list[Family])

    assert received == families
    assert encode(received, Format.PROMETHEUS) == encode(families, Format.PROMETHEUS)

"""Events and the subscribers of users."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterator

import pytest

from fetchq_worker.telemetry import publisher
from fetchq_worker.telemetry.events import AnyEvent, LeaseLost
from fetchq_worker.telemetry.publisher import QUIET_S, Publisher, Subscriber

LOST = LeaseLost(job_id="a", token="w.1")


class _Refuses:
    """Raises what it is told to."""

    def __init__(self, *problems: BaseException) -> None:
        self.problems = list(problems)

    def __call__(self, event: AnyEvent) -> None:
        raise self.problems.pop(0)


def _failures(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if line.startswith("subscriber.failed")]


def test_each_subscriber_gets_each_event_in_the_order_in_which_they_are_given() -> None:
    got: list[tuple[int, AnyEvent]] = []
    events = Publisher([lambda event: got.append((1, event)), lambda event: got.append((2, event))])
    assert events.wanted
    events.publish(LOST)
    assert got == [(1, LOST), (2, LOST)]


def test_without_subscribers_no_event_is_wanted_but_the_log_has_those_that_are_published(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events = Publisher()
    assert not events.wanted
    events.publish(LOST)
    assert caplog.messages == ["lease.lost job=a token=w.1: another worker holds it, this run ends"]


@pytest.mark.parametrize(
    "problem",
    [RuntimeError("no"), SystemExit(2), asyncio.CancelledError(), GeneratorExit()],
    ids=lambda problem: type(problem).__name__,
)
def test_a_subscriber_that_raises_harms_no_other_and_is_logged(
    problem: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[AnyEvent] = []
    events = Publisher([_Refuses(problem), got.append])
    events.publish(LOST)
    assert got == [LOST]
    [line] = _failures(caplog)
    assert f"event=LeaseLost failures=1 error={type(problem).__name__}" in line
    assert "test_publisher._Refuses" in line
    assert caplog.records[-1].exc_info is not None


def test_an_interruption_by_the_user_is_passed_on() -> None:
    with pytest.raises(KeyboardInterrupt):
        Publisher([_Refuses(KeyboardInterrupt())]).publish(LOST)


def test_a_subscriber_that_raises_again_is_logged_once_a_minute_for_each_type(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr(publisher, "monotonic", lambda: now[0])
    errors: list[BaseException] = [ValueError(), ValueError(), KeyError(), ValueError(), ValueError()]
    events = Publisher([_Refuses(*errors)])
    for _ in range(4):
        events.publish(LOST)
    assert [line.split("failures=")[1] for line in _failures(caplog)] == ["1 error=ValueError", "1 error=KeyError"]
    now[0] = QUIET_S
    events.publish(LOST)
    assert _failures(caplog)[-1].endswith("failures=3 error=ValueError")


def test_a_subscriber_that_raises_ever_new_types_is_logged_within_bounds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    events = Publisher([_Refuses(*(type(f"Error{n}", (Exception,), {})() for n in range(500)))])
    for _ in range(500):
        events.publish(LOST)
    assert len(_failures(caplog)) == publisher.MAX_FAILURE_KINDS + 1


class _Awaits:
    async def __call__(self, event: AnyEvent) -> None:
        """Never called."""


async def _awaits(event: AnyEvent) -> None:
    """Never called by a publisher."""


class _Awaitable:
    def __await__(self) -> Iterator[None]:
        yield


@pytest.mark.filterwarnings("error")  # such as "coroutine was never awaited"
@pytest.mark.parametrize(
    ("subscriber", "what"),
    [(lambda event: _awaits(event), "coroutine"), (lambda event: _Awaitable(), "_Awaitable")],  # noqa: PLW0108
    ids=["coroutine", "awaitable"],
)
def test_a_subscriber_that_returns_what_would_have_to_be_awaited_is_logged_once(
    subscriber: Subscriber, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[AnyEvent] = []
    events = Publisher([subscriber, got.append])
    events.publish(LOST)
    events.publish(LOST)
    gc.collect()
    assert got == [LOST, LOST]
    [line] = _failures(caplog)
    assert line.endswith("<lambda> event=LeaseLost failures=1 error=TypeError")
    assert f"TypeError: the subscriber returned a {what}, which is not awaited: start a task instead" in caplog.text


@pytest.mark.asyncio
async def test_a_subscriber_may_return_the_task_that_it_starts(caplog: pytest.LogCaptureFixture) -> None:
    tasks: list[asyncio.Task[None]] = []

    def start(event: AnyEvent) -> asyncio.Task[None]:
        tasks.append(asyncio.create_task(_awaits(event)))
        return tasks[0]

    Publisher([start]).publish(LOST)
    await tasks[0]
    assert not _failures(caplog)


def test_one_subscriber_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(TypeError, match=r"subscribers takes a list of callables, not builtins\.print"):
        Publisher(print)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("subscriber", "why"),
    [("print", "str is not callable"), (_awaits, "_awaits is a coroutine"), (_Awaits(), "_Awaits is a coroutine")],
)
def test_what_cannot_be_a_subscriber_is_refused_at_once(subscriber: object, why: str) -> None:
    with pytest.raises(TypeError, match=why):
        Publisher([subscriber])  # type: ignore[list-item]

"""Frames at the widths of terminals, with and without colour, compared with those in `frames/`.

`UPDATE_FRAMES=1` writes them.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from rich.cells import cell_len
from rich.console import Console
from tests.support.import_graph import ROOT
from tests.worker.cli.top.samples import NOW_MS, busy, changed, state, view, with_state, worker

from fetchq import HostLimits, HostState
from fetchq_worker.cli.top.frame import frame_lines, render, wrapped
from fetchq_worker.cli.top.view import Action, Change, Page, Snapshot, Sort, View
from fetchq_worker.cli.top.words import ASCII, UNICODE, Glyphs

FRAMES = Path(__file__).parent / "frames"
SIZES = [(60, 24), (80, 24), (120, 40), (200, 50)]


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def plain(seen: View, width: int, height: int | None, glyphs: Glyphs = UNICODE) -> str:
    return "".join(f"{line.plain.rstrip()}\n" for line in frame_lines(seen, width, height, glyphs))


def coloured(seen: View, width: int, height: int | None) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=width, no_color=False)
    with console.capture() as captured:
        console.print(render(seen, width, height, UNICODE), highlight=False)
    return captured.get()


def assert_frame(name: str, text: str) -> None:
    path = FRAMES / f"{name}.txt"
    if os.environ.get("UPDATE_FRAMES"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_overview_of_a_busy_queue(width: int, height: int) -> None:
    assert_frame(f"overview-{width}", plain(busy(), width, height))


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_overview_in_colour_has_the_same_words(width: int, height: int) -> None:
    assert_frame(f"overview-{width}-colour", coloured(busy(), width, height))


def test_a_terminal_of_ascii_gets_nothing_else() -> None:
    text = plain(busy(), 80, 24, ASCII)
    assert text.isascii()
    assert_frame("overview-80-ascii", text)


def test_one_frame_has_everything_and_no_bars() -> None:
    seen = msgspec.structs.replace(busy(), interval_s=None)
    text = plain(seen, 100, None)
    assert not set("▁▂▃▄▅▆▇█>") & set(text)
    assert_frame("once-100", text)
    assert text in (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")


def test_the_page_of_a_host_the_workers_and_the_help() -> None:
    seen = changed(busy(), page=Page.HOST, selected="api.example.org")
    limits = HostLimits(concurrency=2, rate="1/s", burst=1, min_delay_s=0.5, paused=False)
    assert_frame("host-80", plain(msgspec.structs.replace(seen, host_limits=limits), 80, 24))
    assert_frame("workers-80", plain(changed(busy(), page=Page.WORKERS), 80, 24))
    assert_frame("help-80", plain(changed(busy(), page=Page.HELP), 80, 24))


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("empty", view()),
        ("empty-without-workers", with_state()),
        ("no-workers", with_state(due=12, demand=12, oldest_due_s=91.0)),
        ("away", view(problem="Redis at redis.internal:6379 is not reachable: connection refused", problem_s=12.2)),
    ],
)
def test_the_states_of_a_queue(name: str, seen: View) -> None:
    assert_frame(name, plain(seen, 80, 16))


@pytest.mark.parametrize("page", list(Page))
@pytest.mark.parametrize("width", [1, 20, 29, 30, 40, 60, 80, 133, 500])
@pytest.mark.parametrize("height", [1, 5, 6, 10, 15, 24, 60])
def test_a_frame_fills_its_terminal_and_never_more(width: int, height: int, page: Page) -> None:
    for seen in (busy(), with_state(), asking(Action.PAUSE_QUEUE)):
        lines = frame_lines(changed(seen, page=page, selected="held.example"), width, height, UNICODE)
        assert max(line.cell_len for line in lines) <= width
        assert len(lines) == height or (len(lines) == 1 and (width < 30 or height < 6))


def test_thousands_of_hosts_and_workers_take_the_room_that_there_is() -> None:
    hosts = tuple(HostState(host=f"h{number}.example", waiting=5000 - number) for number in range(3000))
    workers = tuple(worker(number) for number in range(2000))
    seen = view(Snapshot(state=state(workers=workers, hosts_waiting=3000, waiting=10**7, due=1), hosts=hosts))
    begun = time.perf_counter()
    text = plain(changed(seen, selected="h2999.example"), 80, 24)
    assert time.perf_counter() - begun < 2
    assert "> h2999.example" in text
    assert " of 2,000)" in text
    assert "worker (1,991-2,000 of 2,000)" in plain(changed(seen, page=Page.WORKERS, first_worker=1990), 80, 24)


def test_names_from_outside_cannot_move_the_cursor_or_break_a_line() -> None:
    evil = "\x1b[2J\x1b[1;1Hevil\r\n\t\x07.example"
    seen = view(
        Snapshot(
            state=state(workers=(worker(1, host=evil, version=evil),), waiting=3, hosts_waiting=1),
            hosts=(HostState(host=evil, waiting=3, cooldown_s=5.0, last_outcome=evil, failed_connections=1),),
            recent={f"{evil}()": 50},
        ),
        queue=evil,
        redis=evil,
        problem=evil,
    )
    for page in Page:
        asked = changed(seen, page=page, selected=evil, question=Change(Action.PAUSE_HOST, evil))
        for one in (asked, changed(seen, page=page, message=evil)):
            for line in frame_lines(one, 200, 30, UNICODE):
                assert line.plain.isprintable()
    assert "\x1b[2J" not in coloured(seen, 200, 30)


def asking(action: Action, host: str = "") -> View:
    return changed(busy(), question=Change(action, host))


@pytest.mark.parametrize(
    ("action", "host", "sentence"),
    [
        (
            Action.PAUSE_QUEUE,
            "",
            "Pause arq:queue? No worker starts a job of it: 5,863 jobs will wait. 163 that run go on. Producers can"
            " enqueue. (y/n)",
        ),
        (Action.RESUME_QUEUE, "", "Resume arq:queue? 40 jobs may start at once, and 4,623 in turn. (y/n)"),
        (
            Action.PAUSE_HOST,
            "shop.example",
            "Pause shop.example for all workers of arq:queue? 4,198 jobs will wait. 2 that run go on. (y/n)",
        ),
        (Action.RESUME_HOST, "held.example", "Resume held.example? 7 jobs may start within its limits. (y/n)"),
    ],
)
def test_a_question_says_what_is_affected(action: Action, host: str, sentence: str) -> None:
    lines = plain(asking(action, host), 200, 30).splitlines()
    assert lines[-1] == sentence
    narrow = plain(asking(action, host), 60, 24).splitlines()
    assert " ".join(sentence.split()).endswith(narrow[-1].strip())


def test_hosts_are_sorted_as_asked_and_the_marked_one_is_followed() -> None:
    seen = changed(busy(), sort=Sort.COOLDOWN, selected="busy.example")
    lines = plain(seen, 120, 40).splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith("  host "))
    assert lines[first + 1].startswith("  broken.example")
    assert lines[first + 2].startswith("> busy.example")


def test_a_clock_that_differs_is_said_and_heartbeats_are_by_redis() -> None:
    snapshot = msgspec.structs.replace(view().snapshot, clock_ahead_s=-3600.0)
    text = plain(view(snapshot), 120, 24)
    assert "the clock of this machine is 1 h 0 min behind Redis's; times here are Redis's" in text
    assert "2.3 s ago" in text
    assert snapshot.state.now_ms == NOW_MS


@pytest.mark.parametrize("width", [1, 7, 30])
def test_a_sentence_is_wrapped_at_words_and_a_long_word_is_cut(width: int) -> None:
    lines = wrapped("a sentence with averyveryveryverylongword in it", width)
    assert max(cell_len(line) for line in lines) <= width
    assert "".join(lines).replace(" ", "") == "asentencewithaveryveryveryverylongwordinit"

"""What a terminal sends, and what it leads to."""

from __future__ import annotations

import msgspec
import pytest
from tests.worker.cli.top.samples import busy, changed, view, with_state, worker

from fetchq import HostLimits
from fetchq_worker.cli.top.keys import Key, Reaction, Request, keys_in, react
from fetchq_worker.cli.top.view import Action, Change, Page, Screen, Sort, View


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("jk", ["j", "k"]),
        ("\x1b[A\x1bOB\x1b[5~\x1b[6~", [Key.UP, Key.DOWN, Key.PAGE_UP, Key.PAGE_DOWN]),
        ("\x1b[H\x1b[4~\r\n", [Key.HOME, Key.END, Key.ENTER, Key.ENTER]),
        ("\x1b", [Key.ESCAPE]),
        ("\x1bq", [Key.ESCAPE, "q"]),
        ("\x1b[<0;12;3M\x1b[200~\x1b[1;5A", []),  # a mouse, a paste, and Ctrl with an arrow
        ("ü\x00", ["ü", "\x00"]),
    ],
)
def test_bytes_become_keys_and_unknown_sequences_nothing(text: str, keys: list[str]) -> None:
    assert list(keys_in(text)) == keys


def after(seen: View, *keys: str) -> Reaction:
    """The reaction to the last key."""
    reaction = Reaction(seen.screen)
    for key in keys:
        reaction = react(msgspec.structs.replace(seen, screen=reaction.screen), key)
    return reaction


def test_q_quits_from_every_page_and_from_a_question_only_after_an_answer() -> None:
    for page in Page:
        assert after(changed(busy(), page=page), "q").request is Request.QUIT
    assert after(busy(), "p", "q").request is None
    assert after(busy(), "p", "q", "q").request is Request.QUIT


@pytest.mark.parametrize(
    ("seen", "change"),
    [
        (busy(), Change(Action.PAUSE_QUEUE)),
        (with_state(paused=True), Change(Action.RESUME_QUEUE)),
        (changed(busy(), page=Page.HOST, selected="shop.example"), Change(Action.PAUSE_HOST, "shop.example")),
        (changed(busy(), page=Page.HOST, selected="held.example"), Change(Action.RESUME_HOST, "held.example")),
    ],
)
def test_only_y_carries_a_change_out(seen: View, change: Change) -> None:
    assert after(seen, "p") == Reaction(msgspec.structs.replace(seen.screen, question=change))
    assert after(seen, "p", "y") == Reaction(seen.screen, change)
    for key in ("n", "q", Key.ESCAPE):
        refused = after(seen, "p", key)
        assert (refused.request, refused.screen.question, refused.screen.message) == (None, None, "nothing was changed")
    for key in ("p", "x", Key.ENTER, Key.UP, "r", "\x0c"):
        assert after(seen, "p", key).screen.question == change


def test_a_host_that_is_no_longer_read_is_resumed_by_its_limits() -> None:
    seen = changed(busy(), page=Page.HOST, selected="idle.example")
    assert after(seen, "p").screen.question == Change(Action.PAUSE_HOST, "idle.example")
    paused = msgspec.structs.replace(seen, host_limits=HostLimits(paused=True))
    assert after(paused, "p").screen.question == Change(Action.RESUME_HOST, "idle.example")


def test_the_marked_host_moves_within_the_list_and_stays_when_the_order_changes() -> None:
    assert after(busy(), "j").screen.selected == "api.example.org"
    assert after(busy(), "j", Key.DOWN, "k").screen.selected == "api.example.org"
    assert after(busy(), "k").screen.selected == "shop.example"
    assert after(busy(), "G").screen.selected == "key:tenant-ü"
    assert after(busy(), Key.PAGE_DOWN, "g").screen.selected == "shop.example"
    moved = after(busy(), "j", "j", "s")
    assert (moved.screen.selected, moved.screen.sort) == ("broken.example", Sort.RUNNING)
    assert after(busy(), *["s"] * 4).screen.sort is Sort.WAITING
    assert after(view(), "j").screen.selected == ""


def test_enter_looks_at_the_marked_host_and_reads_it_and_escape_goes_back() -> None:
    looked = after(busy(), "j", Key.ENTER)
    assert (looked.screen.page, looked.screen.selected) == (Page.HOST, "api.example.org")
    assert looked.request is Request.REFRESH
    assert after(busy(), Key.ENTER).screen.selected == "shop.example"
    assert after(busy(), Key.ENTER, Key.ESCAPE).screen.page is Page.OVERVIEW
    assert after(view(), Key.ENTER).screen.page is Page.OVERVIEW


def test_on_the_page_of_a_host_the_arrows_lead_to_the_next_one_which_is_read_at_once() -> None:
    moved = after(busy(), Key.ENTER, Key.DOWN)
    assert (moved.screen.page, moved.screen.selected) == (Page.HOST, "api.example.org")
    assert moved.request is Request.REFRESH
    assert after(busy(), Key.ENTER, Key.UP).request is None


@pytest.mark.parametrize("page", [Page.HOST, Page.WORKERS, Page.HELP])
def test_enter_and_escape_lead_back_to_the_overview(page: Page) -> None:
    for key in (Key.ENTER, Key.ESCAPE):
        assert after(changed(busy(), page=page, selected="shop.example"), key).screen.page is Page.OVERVIEW


def test_the_same_key_opens_and_closes_the_help_and_the_workers() -> None:
    for key, page in (("h", Page.HELP), ("?", Page.HELP), ("w", Page.WORKERS)):
        assert after(busy(), key).screen.page is page
        assert after(busy(), key, key).screen.page is Page.OVERVIEW


def test_the_workers_are_scrolled_to_the_last_and_no_further() -> None:
    many = with_state(workers=tuple(worker(number) for number in range(30)))
    assert after(many, "w", "G").screen.first_worker == 29
    assert after(many, "w", " ", "j").screen.first_worker == 11
    assert after(many, "w", "k").screen.first_worker == 0
    assert after(many, "w", "G", "w", "w").screen.first_worker == 0


def test_a_message_lasts_until_the_next_key() -> None:
    seen = changed(busy(), message="arq:queue is paused")
    assert after(seen, "x") == Reaction(Screen())
    assert after(seen, "r") == Reaction(Screen(), Request.REFRESH)
    assert after(seen, "\x0c") == Reaction(Screen(), Request.REDRAW)

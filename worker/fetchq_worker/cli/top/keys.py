"""What the bytes of a terminal mean as keys, and what a key changes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from .view import Action, Change, Page, Screen, Sort, View, selected_host, sorted_hosts


class Key(StrEnum):
    """Keys that are no printable character."""

    UP = "up"
    DOWN = "down"
    PAGE_UP = "page up"
    PAGE_DOWN = "page down"
    HOME = "home"
    END = "end"
    ENTER = "enter"
    ESCAPE = "escape"


_SEQUENCES: Final = {
    "[A": Key.UP, "OA": Key.UP, "[B": Key.DOWN, "OB": Key.DOWN, "[5~": Key.PAGE_UP, "[6~": Key.PAGE_DOWN,
    "[H": Key.HOME, "OH": Key.HOME, "[1~": Key.HOME, "[7~": Key.HOME,
    "[F": Key.END, "OF": Key.END, "[4~": Key.END, "[8~": Key.END,
}  # fmt: skip
"""What follows ESC, as xterm, VT220, rxvt and the console of Linux send it."""
_TOKEN: Final = re.compile(r"\x1b(\[[0-9;?<]*[A-Za-z~]|O[A-Za-z])|\x1b|[\s\S]")
_CONTROLS: Final = {"\r": Key.ENTER, "\n": Key.ENTER, "\x1b": Key.ESCAPE, "\x10": Key.UP, "\x0e": Key.DOWN}
_PAGE: Final = 10
"""Lines that a page key moves by."""


class Request(StrEnum):
    """What a key asks of the program."""

    QUIT = "quit"
    REFRESH = "refresh"
    REDRAW = "redraw"
    """All of the screen, as after another program has written over it."""


class Reaction(NamedTuple):
    """What a key leads to."""

    screen: Screen
    request: Request | Change | None = None


def keys_in(text: str) -> Iterator[str]:
    """The keys of what a terminal sent at once: a `Key`, or a character. Unknown sequences are left out."""
    for token in _TOKEN.finditer(text):
        if (sequence := token[1]) is not None:
            if sequence in _SEQUENCES:
                yield _SEQUENCES[sequence]
        else:
            yield _CONTROLS.get(token[0], token[0])


def react(view: View, key: str) -> Reaction:
    """What `key` changes in what is shown, and what it asks for."""
    screen = msgspec.structs.replace(view.screen, message="")
    if screen.question is not None:
        return _answer(screen, screen.question, key)
    match key:
        case "q" | "Q":
            return Reaction(screen, Request.QUIT)
        case "r" | "R":
            return Reaction(screen, Request.REFRESH)
        case "\x0c":
            return Reaction(screen, Request.REDRAW)
        case "h" | "?":
            return Reaction(_toggle_page(screen, Page.HELP))
        case "w":
            return Reaction(_toggle_page(screen, Page.WORKERS))
        case Key.ESCAPE:
            return Reaction(_toggle_page(screen, screen.page))
        case "p":
            return Reaction(msgspec.structs.replace(screen, question=_pause(view)))
        case "s":
            order = list(Sort)
            sort = order[(order.index(screen.sort) + 1) % len(order)]
            return Reaction(msgspec.structs.replace(screen, sort=sort, message=f"hosts are sorted by {sort}"))
        case Key.ENTER:
            host = selected_host(view)
            if screen.page is not Page.OVERVIEW or host is None:
                return Reaction(_toggle_page(screen, screen.page))
            shown = msgspec.structs.replace(screen, page=Page.HOST, selected=host.host)
            return Reaction(shown, Request.REFRESH)
    moved = _moved(view, screen, key)
    other_host = moved.page is Page.HOST and moved.selected != screen.selected
    return Reaction(moved, Request.REFRESH if other_host else None)


def _answer(screen: Screen, question: Change, key: str) -> Reaction:
    """Only y carries a change out; other keys than n, q and ESC leave the question where it is."""
    answered = msgspec.structs.replace(screen, question=None)
    if key in ("y", "Y"):
        return Reaction(answered, question)
    if key in ("n", "N", "q", Key.ESCAPE):
        return Reaction(msgspec.structs.replace(answered, message="nothing was changed"))
    return Reaction(screen)


def _toggle_page(screen: Screen, page: Page) -> Screen:
    """Another page; the one that is shown gives way to the overview."""
    return msgspec.structs.replace(screen, page=Page.OVERVIEW if screen.page is page else page, first_worker=0)


def _pause(view: View) -> Change:
    """The change that `p` is about: on the page of a host its pause, else that of the queue."""
    if view.screen.page is Page.HOST:
        host = selected_host(view)
        if host is not None and host.host == view.screen.selected:
            paused = host.paused
        else:  # none of its jobs waits or runs
            paused = view.host_limits is not None and view.host_limits.paused is True
        return Change(Action.RESUME_HOST if paused else Action.PAUSE_HOST, view.screen.selected)
    return Change(Action.RESUME_QUEUE if view.snapshot.state.paused else Action.PAUSE_QUEUE)


def _moved(view: View, screen: Screen, key: str) -> Screen:
    """The marked host, or the first line of the workers, one or more lines away."""
    steps = {
        "j": 1, Key.DOWN: 1, "k": -1, Key.UP: -1, Key.PAGE_DOWN: _PAGE, " ": _PAGE, Key.PAGE_UP: -_PAGE,
        Key.HOME: -(10**9), "g": -(10**9), Key.END: 10**9, "G": 10**9,
    }.get(key, 0)  # fmt: skip
    if not steps:
        return screen
    if screen.page is Page.WORKERS:
        last = max(0, len(view.snapshot.state.workers) - 1)
        return msgspec.structs.replace(screen, first_worker=max(0, min(last, screen.first_worker + steps)))
    if screen.page not in (Page.OVERVIEW, Page.HOST):
        return screen
    names = [host.host for host in sorted_hosts(view.snapshot.hosts, screen.sort)]
    if not names:
        return screen
    place = names.index(screen.selected) if screen.selected in names else 0
    return msgspec.structs.replace(screen, selected=names[max(0, min(len(names) - 1, place + steps))])

"""The live view: shows a frame, waits for a key, a reading or a signal, and shows the next."""

from __future__ import annotations

import asyncio
import io
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Final

import msgspec
from rich.console import Console
from rich.text import Text

from fetchq import FetchqError, Producer
from fetchq.command.exit_status import ExitStatus

from .frame import frame_lines
from .keys import Reaction, Request, keys_in, react
from .reader import Reader
from .terminal import Terminal
from .view import Action, Change, Page, View
from .words import Glyphs

HUNG_UP: Final = 128 + signal.SIGHUP
_TICK_S: Final = 1.0
_STATUS: Final = {signal.SIGINT: ExitStatus.INTERRUPTED, signal.SIGTERM: ExitStatus.TERMINATED}


class _Event(Enum):
    """What wakes the view, beside the keys."""

    READ = "read"
    TICK = "tick"
    RESIZED = "resized"


class Live:
    """The view from its first frame to its end."""

    def __init__(self, view: View, reader: Reader, producer: Producer, glyphs: Glyphs) -> None:
        self._view = view
        self._reader: Final = reader
        self._producer: Final = producer
        self._glyphs: Final = glyphs
        self._console: Final = Console(file=io.StringIO(), force_terminal=True, width=10_000, legacy_windows=False)
        """Turns styles into control sequences, as TERM, COLORTERM and NO_COLOR say."""
        self._events: Final[asyncio.Queue[_Event | str | int]] = asyncio.Queue()
        self._terminal: Final = Terminal(0, 1, self._events.put_nowait, self._on_end)
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._wake: Final = asyncio.Event()
        self._read_at_s = time.monotonic()
        """When the figures that are shown were read."""

    async def run(self) -> int:
        """Runs until a key or a signal ends it; returns the exit status. The terminal is given back in any case."""
        reading = asyncio.create_task(self._read_again_and_again())
        try:
            with self._signals():
                self._terminal.enter()
                return await self._follow(reading)
        finally:
            self._terminal.close()
            for task in (reading, *self._tasks):
                task.cancel()
            await asyncio.gather(reading, *self._tasks, return_exceptions=True)

    async def _follow(self, reading: asyncio.Task[None]) -> int:
        self._draw()
        while True:
            event = await self._next_event(reading)
            if isinstance(event, int):
                return event
            again = event is _Event.RESIZED
            if isinstance(event, str):
                for key in keys_in(event):
                    reaction = react(self._view, key)
                    if reaction.request is Request.QUIT:
                        return ExitStatus.OK
                    again = again or reaction.request is Request.REDRAW
                    self._apply(reaction)
            self._draw(again=again)

    async def _next_event(self, reading: asyncio.Task[None]) -> _Event | str | int:
        """The next event; raises what the reading task raised, which is a fault in this program."""
        event = asyncio.create_task(self._events.get())
        tick_s = _TICK_S if self._view.problem else None
        await asyncio.wait({event, reading}, timeout=tick_s, return_when=asyncio.FIRST_COMPLETED)
        if event.done():
            return event.result()
        event.cancel()
        if reading.done():
            reading.result()
        return _Event.TICK

    def _apply(self, reaction: Reaction) -> None:
        if reaction.screen.selected != self._view.screen.selected:
            self._change(host_limits=None)
        self._change(screen=reaction.screen)
        if isinstance(reaction.request, Change):
            task = asyncio.create_task(self._carry_out(reaction.request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if reaction.request is Request.REFRESH:
            self._wake.set()

    def _change(self, **fields: object) -> None:
        self._view = msgspec.structs.replace(self._view, **fields)

    def _say(self, message: str) -> None:
        self._change(screen=msgspec.structs.replace(self._view.screen, message=message))
        self._events.put_nowait(_Event.TICK)

    async def _carry_out(self, change: Change) -> None:
        """Changes the queue or a host, and says what became of it."""
        try:
            match change.action:
                case Action.PAUSE_QUEUE:
                    await self._producer.pause()
                    said = f"{self._view.queue} is paused"
                case Action.RESUME_QUEUE:
                    await self._producer.resume()
                    said = f"{self._view.queue} is resumed"
                case Action.PAUSE_HOST:
                    await self._producer.limits.pause(change.host)
                    said = f"{change.host} is paused"
                case Action.RESUME_HOST:
                    await self._producer.limits.resume(change.host)
                    said = f"{change.host} is resumed"
        except FetchqError as problem:
            said = f"not done: {problem}"
        self._say(said)
        self._wake.set()

    async def _read_again_and_again(self) -> None:
        interval_s = self._view.interval_s or 1.0
        while True:
            self._wake.clear()
            try:
                async with asyncio.timeout(interval_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
            await self._read()
            self._events.put_nowait(_Event.READ)

    async def _read(self) -> None:
        """The next reading; if it fails the last one stays, with the reason and the time since it."""
        try:
            snapshot = await self._reader.read()
            self._read_at_s = time.monotonic()
            self._change(snapshot=snapshot, problem="", problem_s=0.0)
            host = self._view.screen.selected
            if self._view.screen.page is Page.HOST and host:
                limits = await self._reader.read_limits(host)
                if host == self._view.screen.selected:
                    self._change(host_limits=limits)
        except FetchqError as problem:
            self._change(problem=str(problem))

    def _draw(self, *, again: bool = False) -> None:
        width, height = self._terminal.size()
        self._change(problem_s=time.monotonic() - self._read_at_s if self._view.problem else 0.0)
        lines = frame_lines(self._view, width, height, self._glyphs)
        self._terminal.show([self._styled(line) for line in lines], again=again)

    def _styled(self, line: Text) -> str:
        """A line with the control sequences of its colours."""
        with self._console.capture() as captured:
            self._console.print(line, end="", soft_wrap=True, markup=False, highlight=False)
        return captured.get()

    def _on_end(self) -> None:
        self._events.put_nowait(int(HUNG_UP))

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Signals become events, and Ctrl-Z gives the terminal back until the process continues."""
        loop = asyncio.get_running_loop()
        handlers: dict[signal.Signals, Callable[[], object]] = {
            signum: lambda signum=signum: self._events.put_nowait(int(_STATUS.get(signum, 128 + signum)))  # type: ignore[misc]
            for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
        }
        handlers |= {
            signal.SIGWINCH: lambda: self._events.put_nowait(_Event.RESIZED),
            signal.SIGTSTP: self._suspend,
            signal.SIGCONT: self._continue,
        }
        for signum, handler in handlers.items():
            loop.add_signal_handler(signum, handler)
        try:
            yield
        finally:
            for signum in handlers:
                loop.remove_signal_handler(signum)

    def _suspend(self) -> None:
        """Gives the terminal back and stops, as the signal does by default: not where no shell could continue it."""
        loop = asyncio.get_running_loop()
        self._terminal.leave()
        loop.remove_signal_handler(signal.SIGTSTP)
        signal.pthread_kill(threading.get_ident(), signal.SIGTSTP)  # returns when the process continues
        loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        self._continue()

    def _continue(self) -> None:
        self._terminal.enter()
        self._events.put_nowait(_Event.RESIZED)

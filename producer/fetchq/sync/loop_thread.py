"""An event loop in its own thread, with one producer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any, Final, TypeVar

from fetchq.client.producer import Producer
from fetchq.errors import FetchqError

T = TypeVar("T")


class LoopThread:
    """Runs coroutines of one producer for callers in other threads."""

    def __init__(self, make_producer: Callable[[], Producer]) -> None:
        self.producer: Final = make_producer()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fetchq-producer", daemon=True)
        self._gate = threading.Lock()  # so that no coroutine is submitted to a loop that is being stopped
        self._stopped = False
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs the coroutine `work` in the loop and returns its result. If that is impossible, closes it and raises."""
        try:
            self._check_thread()
            with self._gate:
                self._check_open()
                future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except FetchqError:
            work.close()
            raise
        return self._wait(future)

    def iterate(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        """The items of an async generator, which is closed at the end."""
        try:
            while True:
                try:
                    yield self.call(_next(items))
                except StopAsyncIteration:
                    return
        finally:
            if not self._stopped:
                self.call(_close(items))

    def stop(self) -> None:
        """Closes the producer and ends the thread. Calls of other threads that still wait raise `FetchqError`."""
        self._check_thread()
        with self._gate:
            self._stopped = True
            ended = asyncio.run_coroutine_threadsafe(_end(self.producer), self._loop)
        try:
            ended.result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _wait(self, future: Future[T]) -> T:
        try:
            return future.result()
        except CancelledError as problem:
            raise FetchqError("the producer was closed by another thread") from problem
        except BaseException:
            future.cancel()  # a KeyboardInterrupt in this thread also cancels the coroutine
            raise

    def _check_open(self) -> None:
        if self._stopped:
            raise FetchqError("the producer is closed")

    def _check_thread(self) -> None:
        if threading.current_thread() is self._thread:
            raise FetchqError("called in the thread of the producer's own event loop, which would wait for itself")


async def _next(items: AsyncGenerator[T, None]) -> T:
    return await anext(items)


async def _close(items: AsyncGenerator[T, None]) -> None:
    await items.aclose()


async def _end(producer: Producer) -> None:
    await producer.aclose()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()

"""A worker inside the test process: it runs the jobs of a queue, with canned responses for fetches."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, Self, Unpack

import msgspec

from fetchq.client.producer import Producer
from fetchq.client.write.policy import WriteOptions
from fetchq.contract.request import FetchRequest
from fetchq.contract.result import FetchResult
from fetchq.contract.status import FetchStatus
from fetchq.store.keys import DEFAULT_QUEUE, Keys
from fetchq.sync.producer import SyncProducer

from .embedded import TestRedis
from .execution import Call, Function, NamedFunction, Prepared
from .responses import CannedResponse, CannedResponses, Respond
from .run import QueueRun


class TestWorker:
    """Runs the jobs of one queue of a `TestRedis`, by the scripts that real workers use.

        worker.respond("https://api.example/users", json=[{"id": 1}])
        await code_under_test(worker.producer())
        await worker.run()
        assert worker.results[0].data == [{"id": 1}]

    Fetches get canned responses and are retried as their `retry` says, without its delays. Jobs of `functions` run with
    `ctx`, as under a real worker. `run()` runs what is due; as a context manager, async or not, the worker runs in the
    background, for code that waits for results.
    """

    __test__ = False

    def __init__(
        self,
        redis: TestRedis | None = None,
        *,
        functions: Iterable[Function | NamedFunction] = (),
        ctx: Mapping[str, Any] | None = None,
        queue: str = DEFAULT_QUEUE,
        namespace: str = "",
    ) -> None:
        """`functions` are coroutine functions, or what `arq.worker.func` makes of them."""
        self.redis: Final = TestRedis() if redis is None else redis
        self.keys: Final = Keys(queue=queue, namespace=namespace)
        self.functions: Final[dict[str, Function]] = {}
        self.ctx: Final[dict[str, Any]] = dict(ctx or {})
        self.responses: Final = CannedResponses()
        self.requests: Final[list[FetchRequest]] = []
        """Every request that was sent, retries included."""
        self.results: Final[list[FetchResult]] = []
        """The results of fetch jobs, in the order in which they finished."""
        self.calls: Final[list[Call]] = []
        """The runs of `functions`, in the order in which they finished."""
        self._run: QueueRun | None = None
        """The run in the background."""
        self._task: asyncio.Task[None] | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._served: Future[None] | None = None
        for function in functions:
            self.add_function(function)

    def add_function(self, function: Function | NamedFunction, *, name: str | None = None) -> None:
        """Runs the jobs of this name, by default that of the function."""
        coroutine: Any = getattr(function, "coroutine", function)
        self.functions[name or getattr(function, "name", None) or coroutine.__qualname__] = coroutine

    def respond(
        self,
        url: str | re.Pattern[str],
        response: CannedResponse | Respond | None = None,
        *,
        method: str | None = None,
        times: int | None = None,
        http_status: int = 200,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        text: str | None = None,
        json: Any = msgspec.UNSET,
        final_url: str | None = None,
        status: FetchStatus | str | None = None,
        error: str | None = None,
    ) -> None:
        """Prepares the response for a URL, for a prefix that ends with `*`, or for URLs in which a pattern is found.

        Exact URLs take precedence over prefixes, and these over patterns. Several responses for one URL are used in the
        order in which they were added, each `times` times: so a first attempt can fail and a second succeed.

        The response is given by the keywords (`CannedResponse`), or by `response`, which can be a function that makes
        it from the request. `status="TIMEOUT"` fails without a response.
        """
        if response is None:
            response = CannedResponse(
                http_status=http_status,
                headers=headers,
                body=body,
                text=text,
                json=json,
                final_url=final_url,
                status=status,
                error=error,
            )
        self.responses.add(url, response, method=method, times=times)

    def producer(self, **options: Unpack[WriteOptions]) -> Producer:
        """A producer on the queue of this worker; close it, or use it as `async with`."""
        return Producer(self.redis.client(), queue=self.keys.queue, namespace=self.keys.namespace, **options)

    def sync_producer(self, **options: Unpack[WriteOptions]) -> SyncProducer:
        """A blocking producer on the queue of this worker; close it, or use it as `with`."""
        return SyncProducer(self.redis.client(), queue=self.keys.queue, namespace=self.keys.namespace, **options)

    def advance(self, seconds: float) -> None:
        """Moves the clock of Redis forward (`TestRedis.advance`): deferred jobs become due."""
        self.redis.advance(seconds)
        if self._run is not None:
            self._run.wake()

    async def run(self) -> int:
        """Runs jobs until none is due, and returns how many have ended.

        Raises `UnexpectedJob` at the end if there was no canned response for a URL, or no function of a name. The
        result of such a job is INTERNAL_ERROR or INVALID_JOB.
        """
        run = self._new_run()
        run.stop()
        await run.run()
        return run.finished

    def run_sync(self) -> int:
        """`run()` for tests without an event loop."""
        return asyncio.run(self.run())

    async def __aenter__(self) -> Self:
        self._run = self._new_run()
        self._task = asyncio.create_task(self._run.run(), name="fetchq-test-worker")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._run is not None
        assert self._task is not None
        self._run.stop()
        self._run = None
        [problem] = await asyncio.gather(self._task, return_exceptions=True)
        if problem is not None and value is None:  # the test's own failure is more useful
            raise problem

    def __enter__(self) -> Self:
        started: Future[QueueRun] = Future()

        async def serve() -> None:
            run = self._new_run()
            started.set_result(run)
            await run.run()

        self._executor = ThreadPoolExecutor(1, thread_name_prefix="fetchq-test-worker")
        self._served = self._executor.submit(asyncio.run, serve())
        self._run = started.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._run is not None
        assert self._executor is not None
        assert self._served is not None
        self._run.stop()
        self._run = None
        self._executor.shutdown()
        problem = self._served.exception()
        if problem is not None and value is None:  # the test's own failure is more useful
            raise problem

    def _new_run(self) -> QueueRun:
        prepared = Prepared(
            self.keys, self.functions, self.ctx, self.responses, self.requests, self.results, self.calls
        )
        return QueueRun(self.redis.client(), prepared)

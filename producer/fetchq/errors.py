"""Every exception that fetchq raises.

FetchqError
├── InvalidRequest (ValueError)      the request was refused where it was made; nothing reached Redis
├── InvalidRedisURL (ValueError)     the address of Redis cannot be understood
├── RedisUnavailable (ConnectionError)  Redis cannot be reached, or went away
├── RedisRefused                     Redis answered, and said no: no permission, a key of another type
│   └── RedisFull (also QueueFull)   ... for want of memory
├── QueueFull                        no room for more jobs; those that found room are the error's `enqueued`
├── NotDurable                       the jobs are on the queue, but not known to be as durable as was asked for
├── DurabilityRefused                this Redis cannot promise the durability that was asked for; nothing was enqueued
├── RedisEvicts                      Redis is set up to drop keys when it is full, and jobs are keys
├── KeyConflict                      the idempotency key belongs to a different request
├── JobNotFound                      no such job: never enqueued, or its result is past its time
├── DeadLetterNotFound               no dead letter under this id
├── ResultTimeout (TimeoutError)     the result did not come within `timeout_s`; the job goes on
├── WireError (ValueError)           bytes from Redis that are not of this contract
│   └── NewerWireVersion             ... but of a later one
├── JobFailed                        a coroutine of the user's raised; carries its type and message
└── FetchError                       a fetch did not end well; raised by `FetchResult.raise_for_status()`
    └── one for each FetchStatus that is a failure, such as FetchTimeout
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fetchq.contract.status import FetchStatus

if TYPE_CHECKING:
    from fetchq.contract.result import FetchResult


class FetchqError(Exception):
    """The root of the tree: all that fetchq raises on purpose."""

    enqueued: tuple[Any, ...] = ()
    """Out of an enqueue: the jobs that are on the queue all the same, of the kind that it gives."""


class InvalidRequest(FetchqError, ValueError):
    """A request that breaks the contract. The sentence names the field. Nothing has reached Redis."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem

    def __reduce__(self) -> tuple[type[InvalidRequest], tuple[str, str]]:
        return type(self), (self.field, self.problem)


class InvalidRedisURL(FetchqError, ValueError):
    """The address of Redis cannot be understood. The sentence never holds the password."""


class RedisUnavailable(FetchqError, ConnectionError):
    """Redis cannot be reached, or the connection broke. What was not acknowledged may be sent again."""


class RedisRefused(FetchqError):
    """Redis answered with an error: out of memory, no permission, or a key that holds something else."""


class QueueFull(FetchqError):
    """There is no room for more jobs: the queue holds `max_queued`, or Redis is short of memory. Try again later."""


class RedisFull(QueueFull, RedisRefused):
    """Redis has reached its `maxmemory`, or comes too near to it."""


class NotDurable(FetchqError):
    """Jobs that are on the queue, and that workers may run, but that are not known to be as durable as was asked for.

    They are the last of `enqueued`; `unconfirmed` are their ids. What was acknowledged before them is durable. Enqueued
    again without an idempotency key, such a job is there twice.
    """

    def __init__(self, sentence: str, unconfirmed: tuple[str, ...]) -> None:
        super().__init__(sentence)
        self.unconfirmed = unconfirmed

    def __reduce__(self) -> tuple[type[NotDurable], tuple[str, tuple[str, ...]]]:
        return type(self), (str(self), self.unconfirmed)


class DurabilityRefused(FetchqError):
    """This Redis cannot promise the durability that was asked for. The sentence says why; nothing was enqueued."""


class RedisEvicts(FetchqError):
    """Redis has a `maxmemory-policy` that drops keys when memory is short. Jobs are keys, so no worker starts on it."""


class KeyConflict(FetchqError):
    """The idempotency key is held by a job with a different request. `job_id` is that job's."""

    def __init__(self, key: str, job_id: str) -> None:
        super().__init__(f"key {key!r} belongs to job {job_id}, whose request is a different one")
        self.key = key
        self.job_id = job_id

    def __reduce__(self) -> tuple[type[KeyConflict], tuple[str, str]]:
        return type(self), (self.key, self.job_id)


class JobNotFound(FetchqError, LookupError):
    """There is neither a job nor a result under this id: never enqueued, kept no result, or past its time."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job and no result under id {job_id!r}: it was never enqueued, or its result has gone")
        self.job_id = job_id

    def __reduce__(self) -> tuple[type[JobNotFound], tuple[str]]:
        return type(self), (self.job_id,)


class DeadLetterNotFound(FetchqError, LookupError):
    """There is no dead letter under this id: the job has not failed for good, was retried, or is past its time."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no dead letter under id {job_id!r}: the job has not died, was retried, or is past its time")
        self.job_id = job_id

    def __reduce__(self) -> tuple[type[DeadLetterNotFound], tuple[str]]:
        return type(self), (self.job_id,)


class ResultTimeout(FetchqError, TimeoutError):
    """The result was not there within `timeout_s`. The job is untouched and may still finish."""


class WireError(FetchqError, ValueError):
    """Bytes that are not of the job contract (docs/job-contract.md)."""


class NewerWireVersion(WireError):
    """A request of a later wire version than this one reads: it is left for a newer worker."""


class JobFailed(FetchqError):
    """A coroutine other than `fetch_data` raised. `type` and `message` are its exception's."""

    def __init__(self, type: str, message: str) -> None:  # noqa: A002 - the wire's own name for it
        super().__init__(f"{type}: {message}" if message else type)
        self.type = type
        self.message = message

    def __reduce__(self) -> tuple[type[JobFailed], tuple[str, str]]:
        return JobFailed, (self.type, self.message)


class FetchError(FetchqError):
    """A fetch that did not end well. `result` is the whole of it."""

    def __init__(self, result: FetchResult) -> None:
        super().__init__(f"{result.status}: {result.error or result.http_status} ({result.url})")
        self.result = result

    def __reduce__(self) -> tuple[type[FetchError], tuple[FetchResult]]:
        return type(self), (self.result,)


class HTTPError(FetchError):
    """The server answered 4xx or 5xx."""


class InvalidURL(FetchError):
    """Not an http or https URL."""


class Blocked(FetchError):
    """Forbidden by the worker's egress policy."""


class RobotsDenied(FetchError):
    """Forbidden by the host's robots.txt."""


class DNSError(FetchError):
    """The name does not resolve."""


class ConnectError(FetchError):
    """No connection, or one that broke before the answer."""


class TLSError(FetchError):
    """The handshake failed, or the certificate is not to be trusted."""


class FetchTimeout(FetchError):
    """A phase, or the whole attempt, took too long."""


class TooManyRedirects(FetchError):
    """More redirects than `max_redirects`."""


class TooLarge(FetchError):
    """The decoded body passed `max_bytes`."""


class BadResponse(FetchError):
    """Malformed HTTP or encoding."""


class Cancelled(FetchError):
    """Cancelled on request."""


class Expired(FetchError):
    """The deadline passed first."""


class WorkerLost(FetchError):
    """The worker went away and the job may not be repeated."""


class InvalidJob(FetchError):
    """Not a job that a worker could run."""


class StoreError(FetchError):
    """The body could not be stored."""


class InternalError(FetchError):
    """A fault of fetchq's own."""


FETCH_ERRORS: Final[dict[FetchStatus, type[FetchError]]] = {
    FetchStatus.HTTP_ERROR: HTTPError,
    FetchStatus.INVALID_URL: InvalidURL,
    FetchStatus.BLOCKED: Blocked,
    FetchStatus.ROBOTS_DENIED: RobotsDenied,
    FetchStatus.DNS_ERROR: DNSError,
    FetchStatus.CONNECT_ERROR: ConnectError,
    FetchStatus.TLS_ERROR: TLSError,
    FetchStatus.TIMEOUT: FetchTimeout,
    FetchStatus.TOO_MANY_REDIRECTS: TooManyRedirects,
    FetchStatus.TOO_LARGE: TooLarge,
    FetchStatus.BAD_RESPONSE: BadResponse,
    FetchStatus.CANCELLED: Cancelled,
    FetchStatus.EXPIRED: Expired,
    FetchStatus.WORKER_LOST: WorkerLost,
    FetchStatus.INVALID_JOB: InvalidJob,
    FetchStatus.STORE_ERROR: StoreError,
    FetchStatus.INTERNAL_ERROR: InternalError,
}
"""Every outcome but the good ones (OK, NOT_MODIFIED) and the exception that stands for it."""

"""Every exception that fetchq raises. This module imports nothing of fetchq.

FetchqError
├── InvalidRequest (ValueError)      an argument breaks the contract; nothing was sent to Redis
├── InvalidRedisURL (ValueError)     the Redis address cannot be parsed
├── RedisUnavailable (ConnectionError)  Redis cannot be reached or is not ready, or the connection broke
├── RedisRefused                     Redis replied with an error: no permission, a key of another type
│   └── RedisFull (also QueueFull)   ... because its memory is full
├── QueueFull                        the queue accepts no more jobs; `enqueued` holds those that it accepted
├── NotDurable                       the jobs are on the queue, but their durability was not confirmed
├── DurabilityRefused                this Redis cannot provide the requested durability; nothing was enqueued
├── RedisEvicts                      the Redis eviction policy can delete jobs
├── RedisTooOld                      the server is older than Redis 7.0 or Valkey 7.2
├── KeyConflict                      the idempotency key belongs to a different request
├── JobNotFound                      no job and no result under this id
├── DeadLetterNotFound               no dead letter under this id
├── ResultTimeout (TimeoutError)     no result within `timeout_s`; the job continues
├── WireError (ValueError)           bytes from Redis do not follow the job contract
│   └── NewerWireVersion             ... because they are of a later wire version
├── JobFailed                        a user's coroutine raised; carries the type and message
└── FetchError                       a fetch failed; defined in fetchq/contract/result.py
    ├── HTTPError                    ├── TLSError                 ├── Cancelled
    ├── InvalidURL                   ├── FetchTimeout             ├── Expired
    ├── Blocked                      ├── TooManyRedirects         ├── WorkerLost
    ├── RobotsDenied                 ├── TooLarge                 ├── InvalidJob
    ├── DNSError                     ├── BadResponse              └── InternalError
    └── ConnectError
"""

from __future__ import annotations

from typing import Any


class FetchqError(Exception):
    """The base class of all exceptions that fetchq raises on purpose."""

    enqueued: tuple[Any, ...] = ()
    """Handles of the jobs that are on the queue in spite of the error, if an enqueue raised it."""


class InvalidRequest(FetchqError, ValueError):
    """An argument breaks the contract; the message names the field. Nothing was sent to Redis."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem

    def __reduce__(self) -> tuple[type[InvalidRequest], tuple[str, str]]:
        return type(self), (self.field, self.problem)


class InvalidRedisURL(FetchqError, ValueError):
    """The Redis address cannot be parsed. The message never contains the password."""


class RedisUnavailable(FetchqError, ConnectionError):
    """Redis cannot be reached, the connection broke, or Redis is not ready: it loads its data, fails over or is busy.

    The same call can succeed later. Commands without a reply may have been executed.
    """


class RedisRefused(FetchqError):
    """Redis replied with an error: out of memory, no permission, or a key of another type."""


class QueueFull(FetchqError):
    """The queue accepts no more jobs: it holds `max_queued`, or Redis is short of memory. Retry later."""


class RedisFull(QueueFull, RedisRefused):
    """Redis has reached its `maxmemory`, or the share of it that the producer allows."""


class NotDurable(FetchqError):
    """The jobs are on the queue and workers may run them, but their durability was not confirmed.

    They are the last of `enqueued`; `unconfirmed` holds their ids. All jobs before them are durable. Enqueueing an
    unconfirmed job again without an idempotency key makes a second job.
    """

    def __init__(self, sentence: str, unconfirmed: tuple[str, ...]) -> None:
        super().__init__(sentence)
        self.unconfirmed = unconfirmed

    def __reduce__(self) -> tuple[type[NotDurable], tuple[str, tuple[str, ...]]]:
        return type(self), (str(self), self.unconfirmed)


class DurabilityRefused(FetchqError):
    """This Redis cannot provide the requested durability; the message says why. Nothing was enqueued."""


class RedisEvicts(FetchqError):
    """The `maxmemory-policy` of Redis can delete keys, and with them jobs. Workers refuse to start."""


class RedisTooOld(FetchqError):
    """The server is older than Redis 7.0 or Valkey 7.2. Workers refuse to start."""


class KeyConflict(FetchqError):
    """The idempotency key belongs to the job `job_id`, whose request differs."""

    def __init__(self, key: str, job_id: str) -> None:
        super().__init__(f"key {key!r} belongs to job {job_id}, whose request differs")
        self.key = key
        self.job_id = job_id

    def __reduce__(self) -> tuple[type[KeyConflict], tuple[str, str]]:
        return type(self), (self.key, self.job_id)


class JobNotFound(FetchqError, LookupError):
    """No job and no result under this id: it was never enqueued, stored no result, or the result has expired."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job and no result under id {job_id!r}: it was never enqueued, or its result has expired")
        self.job_id = job_id

    def __reduce__(self) -> tuple[type[JobNotFound], tuple[str]]:
        return type(self), (self.job_id,)


class DeadLetterNotFound(FetchqError, LookupError):
    """No dead letter under this id: the job has not failed for good, was retried, or the dead letter has expired."""

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"no dead letter under id {job_id!r}: the job has not failed for good, was retried, or it has expired"
        )
        self.job_id = job_id

    def __reduce__(self) -> tuple[type[DeadLetterNotFound], tuple[str]]:
        return type(self), (self.job_id,)


class ResultTimeout(FetchqError, TimeoutError):
    """No result within `timeout_s`. The job is not affected and can still finish."""


class WireError(FetchqError, ValueError):
    """Bytes that do not follow the job contract (docs/job-contract.md)."""


class NewerWireVersion(WireError):
    """A request of a later wire version than this code reads. The job is left for a newer worker."""


class JobFailed(FetchqError):
    """A coroutine other than `fetch_data` raised. `type` and `message` are those of its exception."""

    def __init__(self, type: str, message: str) -> None:  # noqa: A002 - the name of the field on the wire
        super().__init__(f"{type}: {message}" if message else type)
        self.type = type
        self.message = message

    def __reduce__(self) -> tuple[type[JobFailed], tuple[str, str]]:
        return JobFailed, (self.type, self.message)

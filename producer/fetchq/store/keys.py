"""The names of all keys in Redis.

Names that begin with `arq:` are arq's and have arq's meaning (arq 0.28, `arq/constants.py`); those of fetchq begin with
`fetchq:`. A namespace precedes each of them, so that a whole queue can carry one hash tag (such as `{tenant-a}:`) and
stay in one slot of a cluster. Stock arq clients know no namespace, so the default is none.
"""

from typing import Final

import msgspec

from fetchq.errors import InvalidRequest

DEFAULT_QUEUE: Final = "arq:queue"
MAX_QUEUE_CHARS: Final = 200


def check_queue(name: object) -> None:
    """Raises `InvalidRequest` for a name that no queue can have."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_QUEUE_CHARS or not name.isprintable():
        raise InvalidRequest("queue", f"takes a name of 1 to {MAX_QUEUE_CHARS} printable characters")


def check_namespace(name: object) -> None:
    """Raises `InvalidRequest` for a prefix that no key can have, or that makes names like those without a namespace."""
    if not isinstance(name, str) or len(name) > MAX_QUEUE_CHARS or not name.isprintable():
        raise InvalidRequest("namespace", f"takes a prefix of at most {MAX_QUEUE_CHARS} printable characters")
    if name.startswith(("arq:", "fetchq:")):
        raise InvalidRequest("namespace", "does not begin with arq: or fetchq:, as the names of keys without one do")


class Keys(msgspec.Struct, frozen=True):
    """The key names of one queue. A name that ends in a colon is a prefix, of a job id if not otherwise noted."""

    queue: str = DEFAULT_QUEUE
    namespace: str = ""

    @property
    def pending(self) -> str:
        """Sorted set: ids of pending and running jobs by score (`scores.py`): when they are due, in ms."""
        return f"{self.namespace}{self.queue}"

    @property
    def job(self) -> str:
        """String: the payload of a job."""
        return f"{self.namespace}arq:job:"

    @property
    def result(self) -> str:
        """String with a TTL: the result of a finished job."""
        return f"{self.namespace}arq:result:"

    @property
    def in_progress(self) -> str:
        """String with a TTL: the job is running. arq writes `1`, fetchq its fencing token."""
        return f"{self.namespace}arq:in-progress:"

    @property
    def retry(self) -> str:
        """String: how many times the job was started."""
        return f"{self.namespace}arq:retry:"

    @property
    def abort(self) -> str:
        """Sorted set: ids of the jobs to be cancelled, by the ms of the request."""
        return f"{self.namespace}arq:abort"

    @property
    def health(self) -> str:
        """String with a TTL: arq's health check."""
        return f"{self.namespace}{self.queue}:health-check"

    @property
    def attempts(self) -> str:
        """String: the fetch attempts of a job that is not finished (docs/job-contract.md)."""
        return f"{self.namespace}fetchq:attempts:"

    @property
    def robots(self) -> str:
        """String with a TTL: the robots.txt rules of an origin for a product token; both are appended."""
        return f"{self.namespace}fetchq:robots:"

    @property
    def cache(self) -> str:
        """String with a TTL: a stored response of the HTTP cache; a digest of the request is appended."""
        return f"{self.namespace}fetchq:cache:"

    @property
    def shared_cache(self) -> str:
        """Sorted set: the keys of the cache that workers share, by the ms at which they expire."""
        return f"{self.namespace}fetchq:shared-cache"

    @property
    def shared_cache_sizes(self) -> str:
        """Hash: the size in bytes of each of those keys; their sum under the empty field."""
        return f"{self.namespace}fetchq:shared-cache-sizes"

    @property
    def leases(self) -> str:
        """Hash: the lease of each running job, by job id (`records.LeaseRecord`)."""
        return f"{self.namespace}fetchq:leases:{self.queue}"

    @property
    def lease_ends(self) -> str:
        """Sorted set: the leases of one claim as one entry, by the ms at which they end (`lease_index.lua`)."""
        return f"{self.namespace}fetchq:lease-ends:{self.queue}"

    @property
    def maintenance_cursor(self) -> str:
        """String with a TTL: the position of the maintenance scan in the queue."""
        return f"{self.namespace}fetchq:maintenance-cursor:{self.queue}"

    @property
    def dead(self) -> str:
        """Sorted set: ids of the dead letters by the ms at which their jobs ended."""
        return f"{self.namespace}fetchq:dead:{self.queue}"

    @property
    def dead_letter(self) -> str:
        """String with a TTL: the dead letter of a job (docs/job-contract.md)."""
        return f"{self.namespace}fetchq:dead-letter:"

    @property
    def wake(self) -> str:
        """List of wake tokens, at most eight: each wakes one idle worker."""
        return f"{self.namespace}fetchq:wake:{self.queue}"

    @property
    def durability_marker(self) -> str:
        """String with a TTL: a write whose acknowledgement shows that earlier writes are durable too."""
        return f"{self.namespace}fetchq:durability-marker:{self.queue}"

    @property
    def hosts(self) -> str:
        """Hash: the record of each limit key (`records.HostRecord`)."""
        return f"{self.namespace}fetchq:hosts:{self.queue}"

    @property
    def limits(self) -> str:
        """Hash: the limits set for a limit key, a wildcard such as `*.example.org`, or `*` (`records.LimitsEntry`)."""
        return f"{self.namespace}fetchq:limits:{self.queue}"

    @property
    def due_hosts(self) -> str:
        """Sorted set: limit keys, and job ids preceded by `#`, by the ms at which a claim processes them."""
        return f"{self.namespace}fetchq:due-hosts:{self.queue}"

    @property
    def backlog(self) -> str:
        """Sorted set: limit keys by their number of waiting jobs."""
        return f"{self.namespace}fetchq:backlog:{self.queue}"

    @property
    def cooldowns(self) -> str:
        """Sorted set: limit keys by the ms at which their cooldown ends."""
        return f"{self.namespace}fetchq:cooldowns:{self.queue}"

    @property
    def running(self) -> str:
        """Hash: the limit key of each running job, by job id; preceded by `#` once its lease has ended."""
        return f"{self.namespace}fetchq:running:{self.queue}"

    @property
    def waiting(self) -> str:
        """Sorted set: the ids of the waiting jobs of a limit key, which is appended, in order.

        A long queue is split into chunks, each a sorted set of its own (`lua/include/host_queues/host_queue.lua`).
        """
        return f"{self.namespace}fetchq:waiting:{self.queue}:"

    @property
    def paused(self) -> str:
        """String: exists while the queue is paused."""
        return f"{self.namespace}fetchq:paused:{self.queue}"

    @property
    def workers(self) -> str:
        """Sorted set: ids of live workers by the ms of their last heartbeat."""
        return f"{self.namespace}fetchq:workers:{self.queue}"

    @property
    def worker(self) -> str:
        """String with a TTL: the record of a worker; its id is appended (`fetchq.inspect.workers`)."""
        return f"{self.namespace}fetchq:worker:"

    @property
    def metrics(self) -> str:
        """Hash: the queue's figures since its first job, by field (`fetchq.telemetry.figures`); integers."""
        return f"{self.namespace}fetchq:metrics:{self.queue}"

    @property
    def minute(self) -> str:
        """Hash with a TTL of 25 h: the figures of one minute; its number, ms since the epoch by 60,000, is appended."""
        return f"{self.namespace}fetchq:minute:{self.queue}:"

    @property
    def worker_report(self) -> str:
        """String with a TTL: the number of the last report of figures that was counted; a worker's id is appended."""
        return f"{self.namespace}fetchq:worker-report:"

    @property
    def done(self) -> str:
        """Channel: finished jobs' ids, one a line; the first `PUSH_PREFIX_LEN` characters of the ids are appended."""
        return f"{self.namespace}fetchq:done:"

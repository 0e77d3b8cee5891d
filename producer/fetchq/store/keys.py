"""Every key name in Redis.

Names that begin with `arq:` are arq's own and keep arq's meaning (arq 0.28, `arq/constants.py`); what fetchq adds
begins with `fetchq:`. A namespace goes in front of each, so that a whole queue can carry one hash tag (such as
`{tenant-a}:`) and live in one slot of a cluster. Stock arq clients know no namespace, hence the default of none.
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


class Keys(msgspec.Struct, frozen=True):
    """The key names of one queue. Those that take a job id are prefixes: the id follows."""

    queue: str = DEFAULT_QUEUE
    namespace: str = ""

    @property
    def pending(self) -> str:
        """Sorted set: job ids by the time in ms at which they are due."""
        return f"{self.namespace}{self.queue}"

    @property
    def job(self) -> str:
        """String: the job's payload."""
        return f"{self.namespace}arq:job:"

    @property
    def result(self) -> str:
        """String with a TTL: the finished job's result."""
        return f"{self.namespace}arq:result:"

    @property
    def in_progress(self) -> str:
        """String with a TTL: the job is running. arq writes `1`; fetchq's engine writes its fencing token."""
        return f"{self.namespace}arq:in-progress:"

    @property
    def retry(self) -> str:
        """String: how many times a worker has started the job."""
        return f"{self.namespace}arq:retry:"

    @property
    def abort(self) -> str:
        """Sorted set: ids of the jobs whose cancelling was asked for, by when in ms."""
        return f"{self.namespace}arq:abort"

    @property
    def health(self) -> str:
        """String with a TTL: what arq's own health check reads."""
        return f"{self.namespace}{self.queue}:health-check"

    @property
    def attempts(self) -> str:
        """String: the fetch attempts of a job that is not finished yet (docs/job-contract.md)."""
        return f"{self.namespace}fetchq:attempts:"

    @property
    def robots(self) -> str:
        """String with a TTL: what an origin's robots.txt says to a product token, which follow."""
        return f"{self.namespace}fetchq:robots:"

    @property
    def cache(self) -> str:
        """String with a TTL: a stored answer of the HTTP cache; a digest of what was asked for follows."""
        return f"{self.namespace}fetchq:cache:"

    @property
    def shared_cache(self) -> str:
        """Sorted set: the keys of what workers cache for each other, by the ms at which they end."""
        return f"{self.namespace}fetchq:shared-cache"

    @property
    def shared_cache_sizes(self) -> str:
        """Hash: how many bytes each of those keys holds, and under the empty field their sum."""
        return f"{self.namespace}fetchq:shared-cache-sizes"

    @property
    def leases(self) -> str:
        """Hash: the lease of each running job: fencing token, lease end, original score."""
        return f"{self.namespace}fetchq:leases:{self.queue}"

    @property
    def lease_ends(self) -> str:
        """Sorted set: what the leases of one claim begin with, by the ms at which they end, and how many they are."""
        return f"{self.namespace}fetchq:lease-ends:{self.queue}"

    @property
    def maintenance_cursor(self) -> str:
        """String with a TTL: how far the walk over the queue came that keeps old payloads from expiring."""
        return f"{self.namespace}fetchq:maintenance-cursor:{self.queue}"

    @property
    def dead(self) -> str:
        """Sorted set: ids of the dead letters by the ms at which they ended."""
        return f"{self.namespace}fetchq:dead:{self.queue}"

    @property
    def dead_letter(self) -> str:
        """String with a TTL: what is kept of a job that failed for good (docs/job-contract.md)."""
        return f"{self.namespace}fetchq:dead-letter:"

    @property
    def wake(self) -> str:
        """List of at most a few tokens: each wakes one idle worker."""
        return f"{self.namespace}fetchq:wake:{self.queue}"

    @property
    def durability_marker(self) -> str:
        """String with a TTL: written so that what was there before it can be waited for to be durable."""
        return f"{self.namespace}fetchq:durability-marker:{self.queue}"

    @property
    def hosts(self) -> str:
        """Hash: the record of each limit key that has jobs, or something to remember (`lua/frontier.lua`)."""
        return f"{self.namespace}fetchq:hosts:{self.queue}"

    @property
    def limits(self) -> str:
        """Hash: what was set for a limit key, a wildcard such as `*.example.org`, or `*` for all others."""
        return f"{self.namespace}fetchq:limits:{self.queue}"

    @property
    def due_hosts(self) -> str:
        """Sorted set: limit keys, and `#` with a job id, by the ms at which they are to be looked at."""
        return f"{self.namespace}fetchq:due-hosts:{self.queue}"

    @property
    def backlog(self) -> str:
        """Sorted set: limit keys by how many jobs wait for them."""
        return f"{self.namespace}fetchq:backlog:{self.queue}"

    @property
    def cooldowns(self) -> str:
        """Sorted set: limit keys by the ms at which their cooling-off ends."""
        return f"{self.namespace}fetchq:cooldowns:{self.queue}"

    @property
    def running(self) -> str:
        """Hash: the limit key of each running job, by job id; with `#` in front, its lease has ended."""
        return f"{self.namespace}fetchq:running:{self.queue}"

    @property
    def waiting(self) -> str:
        """Prefix, the limit key follows. Sorted set: ids of the jobs that wait for it and are next, in their order.

        With more than a few, `#`, a place, a blank and the key: those from that place on; `#` and the key: the places.
        """
        return f"{self.namespace}fetchq:waiting:{self.queue}:"

    @property
    def paused(self) -> str:
        """String: the whole queue is paused."""
        return f"{self.namespace}fetchq:paused:{self.queue}"

    @property
    def frontier(self) -> tuple[str, ...]:
        """The keys that every script with `lua/frontier.lua` in it takes, in its order."""
        return (self.hosts, self.limits, self.due_hosts, self.backlog, self.cooldowns, self.running)

    @property
    def workers(self) -> str:
        """Sorted set: live workers by their last heartbeat in ms."""
        return f"{self.namespace}fetchq:workers:{self.queue}"

    @property
    def worker(self) -> str:
        """String with a TTL: what one worker says of itself; the worker's id follows."""
        return f"{self.namespace}fetchq:worker:"

    @property
    def done(self) -> str:
        """Channel prefix: the first `PUSH_PREFIX_LEN` characters of the ids follow; messages are ids, one a line."""
        return f"{self.namespace}fetchq:done:"

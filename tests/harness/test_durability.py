"""What each durability survives: the cases of `make durability`."""

from __future__ import annotations

import pytest
from harness.durability.cases import CASES, Case, pull_plug
from harness.servers.powered_redis import durable_bytes


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("case", CASES, ids=str)
async def test_what_was_acknowledged_is_there_after_what_its_durability_is_to_survive_and_only_then(case: Case) -> None:
    outcome = await pull_plug(case)
    assert outcome.acknowledged > 20
    assert (outcome.lost > 0) is case.loses, outcome


def test_a_write_counts_as_durable_once_a_sync_that_began_after_it_has_returned() -> None:
    trace = "\n".join(
        (
            '7 write(1</dev/null>, ""..., 99) = 99',
            '7 write(8</d/a.1.incr.aof>, ""..., 50) = 50',
            "9 fdatasync(8</d/a.1.incr.aof> <unfinished ...>",
            '7 write(8</d/a.1.incr.aof>, ""..., 20 <unfinished ...>',
            "7 <... write resumed>) = 20",
            "9 <... fdatasync resumed>)          = 0",
            '7 write(8</d/a.1.incr.aof>, ""..., 7) = 7',
        )
    )
    assert durable_bytes(trace) == 50
    assert durable_bytes(f"{trace}\n9 fdatasync(8</d/a.1.incr.aof> <unfinished ...>") == 50
    assert durable_bytes(f"{trace}\n7 fdatasync(8</d/a.1.incr.aof>) = 0") == 77

"""Scores: Python and the scripts decode them alike."""

from __future__ import annotations

import pytest
from tests.support.scripted_queue import T0, Queue

from fetchq.store.scores import read_score
from fetchq.store.scripts import script_source

_PLACES = """
local score = {}
for i = 1, #ARGV, 3 do
  score[#score + 1] = scores[ARGV[i]](ARGV[i + 1], tonumber(ARGV[i + 2]))
end
local read = {}
for i = 1, #score do
  local lane, due, was_parked = scores.read(tonumber(score[i]))
  read[i] = {score[i], lane, string.format('%.1f', due), was_parked and 1 or 0}
end
return read
"""


@pytest.mark.asyncio
async def test_python_reads_a_score_as_the_scripts_write_and_read_it(queue: Queue) -> None:
    args = []
    for lane in ("", "h", "l"):
        for due in (0, 1, T0, T0 - 0.5, 2**46 + 0.5):
            args += ["ready", lane, repr(due), "parked", lane, repr(due)]
    places = await queue.redis.eval(script_source("include/queue/parked_score") + _PLACES, 0, *args)
    assert len(places) == len(args) / 3
    for score, lane, due, was_parked in places:
        place = read_score(float(score))
        assert place == (lane.decode(), int(float(due)), was_parked == 1), score


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan"), 1e300])
def test_a_score_that_no_script_writes_is_due(number: float) -> None:
    assert read_score(number) == ("", 0, False)

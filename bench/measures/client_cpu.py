"""The CPU time of one fetch in the process that makes it, by `bench.fetch_cost`: queued, in place, and bare."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.report.results import Results
from bench.testbed.environments import python_of
from bench.testbed.failure import BenchFailure
from bench.testbed.peers import BARE, FETCHQ, Peer
from bench.testbed.processes import run
from bench.testbed.stage import Stage

from .measure import Measure, say

ROUNDS: Final = 5
"""Rounds within one measurement, of which the minimum counts: disturbances only add to CPU time."""


class ClientCpu(Measure):
    """All ways in one process, in turn, so that they share the state of the machine."""

    name = "cpu"
    figures = ("cpu_queued", "cpu_in_place")

    def covers(self, peer: Peer) -> bool:
        return peer.name == FETCHQ

    async def take(self, stage: Stage, peer: Peer) -> dict[str, float]:
        raise NotImplementedError("taken with the bare loop's by `run`")

    async def run(self, stage: Stage, peers: Sequence[Peer], results: Results) -> None:
        for peer in filter(self.takes, peers):
            command: list[str | Path] = [python_of(FETCHQ), "-m", "bench.fetch_cost", "--json", "--rounds", str(ROUNDS)]
            try:
                us = json.loads(await run("fetch-cost", command, stage.folder, timeout_s=180.0, env={}))
            except BenchFailure as problem:
                self.note(results, peer, str(problem))
                continue
            sample = {"cpu_queued": us["queued"], "cpu_in_place": us["in_place"]}
            for figure, value in sample.items():
                results.series(figure, peer.name).samples.append(value)
            results.series("cpu_in_place", BARE).samples.append(us["bare"])
            say(self.name, 1, peer, sample)

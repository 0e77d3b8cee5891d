"""A measure, and the rounds in which it is taken."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from bench.report.results import Results
from bench.testbed.failure import BenchFailure
from bench.testbed.peers import Peer
from bench.testbed.stage import Stage


class Measure(ABC):
    """One measure for each peer. `name` is what ONLY= selects; `figures` are what it fills in."""

    name: ClassVar[str]
    figures: ClassVar[tuple[str, ...]]
    most_rounds: ClassVar[int] = 99

    def covers(self, peer: Peer) -> bool:
        """Whether this measure applies to the peer."""
        return True

    def takes(self, peer: Peer) -> bool:
        """Whether the peer takes part."""
        return self.covers(peer) and (not peer.measures or self.name in peer.measures)

    def figures_of(self, peer: Peer) -> tuple[str, ...]:
        return self.figures

    async def warm_up(self, stage: Stage, peer: Peer) -> None:  # noqa: B027 - not every measure needs one
        """Called once before the first round, not counted: determines the work of a round."""

    @abstractmethod
    async def take(self, stage: Stage, peer: Peer) -> dict[str, float]:
        """One sample of each figure. Raises `BenchFailure`."""

    async def run(self, stage: Stage, peers: Sequence[Peer], results: Results) -> None:
        """Takes the rounds: every peer once, then every peer again. A peer that fails is skipped from then on."""
        left = [peer for peer in peers if self.takes(peer)]
        for number in range(min(results.rounds, self.most_rounds) + 1):
            for peer in list(left):
                if number > peer.most_rounds:
                    continue
                try:
                    if number == 0:
                        await self.warm_up(stage, peer)
                        continue
                    sample = await self.take(stage, peer)
                except BenchFailure as problem:
                    left.remove(peer)
                    self.note(results, peer, str(problem))
                    continue
                for figure, value in sample.items():
                    results.series(figure, peer.name).samples.append(value)
                say(self.name, number, peer, sample)

    def note(self, results: Results, peer: Peer, problem: str) -> None:
        """Records the reason in place of the numbers."""
        for figure in self.figures_of(peer):
            results.series(figure, peer.name).problem = problem
        print(f"  {self.name}: {peer.title}: {problem}", flush=True)


def say(measure: str, number: int, peer: Peer, sample: dict[str, float]) -> None:
    """A line of progress."""
    values = "  ".join(f"{figure} {value:,.4g}" for figure, value in sample.items())
    print(f"  {measure} round {number}: {peer.title:<18} {values}", flush=True)

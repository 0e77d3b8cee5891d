"""Every decoder with bytes that hypothesis makes, for seconds; `make fuzz` runs them for any time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness.fuzz.seeds import SEEDS, seeds_of
from harness.fuzz.targets import TARGETS, remove_scratch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXAMPLES = 150


@pytest.fixture(scope="module", autouse=True)
def _no_scratch_left() -> Iterator[None]:
    yield
    remove_scratch()


@st.composite
def mutated(draw: st.DrawFn, name: str) -> bytes:
    """A seed with some of its parts replaced, removed, doubled or swapped."""
    data = draw(st.sampled_from(seeds_of(name)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 8)))
        piece = draw(st.one_of(st.binary(max_size=6), st.just(data[start:end] * 2), st.just(data[::-1][:9])))
        data = data[:start] + piece + data[end:]
    return data


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_decoded_or_refused_with_a_documented_error(name: str) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=300) | mutated(name))
    def run(data: bytes) -> None:
        TARGETS[name](data)

    run()


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_past_findings_pass(name: str) -> None:
    for data in seeds_of(name):
        TARGETS[name](data)


def test_every_target_has_seeds() -> None:
    assert SEEDS.keys() == TARGETS.keys()

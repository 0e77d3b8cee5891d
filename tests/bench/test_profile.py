"""The owner of a sampled stack."""

from __future__ import annotations

from bench.profile import LOOP, OWNERS, attribute

_ROOT = "start (libc.so.6);Worker.run (arq/worker.py:313);uv_run (core.c:452)"


def _owner_of(*frames: str) -> str:
    owners, _ = attribute(f"{';'.join([_ROOT, *frames])} 1\n")
    [owner] = owners
    return owner


def test_a_write_belongs_to_its_caller() -> None:
    sending = ("step (loop.c:1)", "send (fetchq_worker/fetch/transport/connection.py:9)", "write (libc.so.6)")
    assert "HTTP" in _owner_of(*sending)
    assert "Redis client" in _owner_of("send (site-packages/redis/asyncio/connection.py:9)", "write (libc.so.6)")


def test_the_innermost_known_owner_counts() -> None:
    assert "engine" in _owner_of("run (fetchq_worker/engine/run.py:1)")
    assert "guard" in _owner_of("run (fetchq_worker/engine/run.py:1)", "attempt (fetchq_worker/fetch/attempt.py:2)")
    assert "contract" in _owner_of("attempt (fetchq_worker/fetch/attempt.py:2)", "encode (fetchq/contract/wire.py:3)")


def test_frames_below_the_event_loop_own_no_samples() -> None:
    assert _owner_of("uv__read (stream.c:1)", "read (libc.so.6)") == LOOP


def test_a_collection_has_no_other_owner() -> None:
    assert "garbage" in _owner_of("attempt (fetchq_worker/fetch/attempt.py:2)", "gc_collect_main (libpython3.11.so)")


def test_threads_without_an_event_loop_are_ignored() -> None:
    owners, leaves = attribute("clone (libc.so.6);0x7f00 (libc.so.6) 500\n")
    assert not owners
    assert not leaves


def test_every_owner_can_be_found() -> None:
    assert len({name for name, _ in OWNERS}) == len(OWNERS)

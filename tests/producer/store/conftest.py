"""Fixtures of the scripts' tests: those of the engine's."""

from tests.worker.engine.conftest import embedded_redis, make_worker, new_client, queue, real_redis, redis, small_parts

__all__ = ["embedded_redis", "make_worker", "new_client", "queue", "real_redis", "redis", "small_parts"]

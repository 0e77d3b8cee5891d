"""The fixtures of the engine's tests, for the tests of scripts."""

from tests.worker.engine.conftest import embedded_redis, make_worker, new_client, queue, real_redis, redis, small_chunks

__all__ = ["embedded_redis", "make_worker", "new_client", "queue", "real_redis", "redis", "small_chunks"]

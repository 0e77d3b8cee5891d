"""Which servers a worker accepts."""

from __future__ import annotations

import pytest

from fetchq.errors import RedisTooOld
from fetchq_worker.engine.preflight import check_version


@pytest.mark.parametrize(
    ("server", "sentence"),
    [
        ({"redis_version": "6.2.14"}, "the server is Redis 6.2.14: fetchq needs Redis 7.0 or newer"),
        ({"redis_version": "2.8.2104"}, "the server is Redis 2.8.2104: fetchq needs Redis 7.0 or newer"),
        (
            {"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "7.1.9"},
            "the server is Valkey 7.1.9: fetchq needs Valkey 7.2 or newer",
        ),
    ],
)
def test_older_servers_are_refused_in_one_sentence(server: dict[str, str], sentence: str) -> None:
    with pytest.raises(RedisTooOld) as refusal:
        check_version(server)
    assert str(refusal.value) == sentence


@pytest.mark.parametrize(
    "server",
    [
        {"redis_version": "7.0.0"},
        {"redis_version": "8.2.1"},
        {"redis_version": "255.255.255"},
        {"redis_version": 7.4},
        {"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "7.2.4"},
        {"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "9.0.0"},
        {"redis_version": "unstable"},
        {},
    ],
)
def test_newer_servers_and_those_that_name_no_version_are_accepted(server: dict[str, object]) -> None:
    check_version(server)

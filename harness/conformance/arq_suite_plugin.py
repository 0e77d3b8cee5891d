"""A pytest plugin for arq's own suite: a local Redis in place of its container, and another worker class.

Loaded by name (`-p arq_suite_plugin`) inside the conformance environment, never in the project's. It changes no file of
arq. Environment variables configure it:

`ARQ_SUITE_WORKER`      the class in place of `arq.worker.Worker`, as `package.module:Class`
`ARQ_SUITE_REPORT`      the JSON file for the outcome of each test
`ARQ_SUITE_REDIS_PORT`  the port on loopback of a Redis that may be flushed
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import arq
import arq.cli
import arq.worker
import pytest


class LocalRedis:
    """The parts of testcontainers' `RedisContainer` that arq's conftest uses, for a server that is running already."""

    port = 6379

    def __init__(self, image: str) -> None:
        self.image = image

    def __enter__(self) -> LocalRedis:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Does nothing: the caller stops the server."""

    def get_container_host_ip(self) -> str:
        return "127.0.0.1"

    def get_exposed_port(self, port: int) -> int:
        return int(os.environ["ARQ_SUITE_REDIS_PORT"])


def _stand_in_for_testcontainers() -> None:
    package, module = ModuleType("testcontainers"), ModuleType("testcontainers.redis")
    module.RedisContainer = LocalRedis  # type: ignore[attr-defined]
    sys.modules["testcontainers"], sys.modules["testcontainers.redis"] = package, module


def _load_worker(path: str) -> type[Any]:
    module_name, _, class_name = path.partition(":")
    worker: type[Any] = getattr(importlib.import_module(module_name), class_name)
    defaults: dict[str, Any] = worker.__init__.__kwdefaults__ or {}
    if "metrics" in defaults:
        defaults["metrics"] = False  # arq's tests compare the keys in Redis, and arq keeps no figures
    return worker


class Suite:
    """Replaces the class before arq's tests are imported, checks that they use it, and records their outcomes."""

    def __init__(self, worker: type[Any], report: Path) -> None:
        self.worker = worker
        self.report = report
        self.outcomes: dict[str, dict[str, str]] = {}
        arq.worker.Worker = worker  # type: ignore[misc]  # create_worker and get_kwargs look it up here
        arq.Worker = worker  # type: ignore[misc]

    def pytest_report_header(self) -> str:
        return f"worker under test: {self.worker.__module__}.{self.worker.__qualname__}"

    def pytest_collection_finish(self) -> None:
        modules = [module for name, module in sys.modules.items() if name.startswith("tests.")]
        workers = [module.Worker for module in modules if hasattr(module, "Worker")]
        if not workers or any(worker is not self.worker for worker in workers):
            raise pytest.UsageError("arq's tests were imported with another Worker than the one under test")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        before = self.outcomes.get(report.nodeid)
        if before is not None and (before["outcome"] != "passed" or report.outcome == "passed"):
            return
        detail = "" if report.outcome == "passed" else _first_line(report)
        self.outcomes[report.nodeid] = {"outcome": report.outcome, "detail": detail}

    def pytest_sessionfinish(self) -> None:
        self.report.write_text(json.dumps(self.outcomes, indent=1), encoding="utf-8")


def _first_line(report: pytest.TestReport) -> str:
    """The first line of the reason: pytest gives a skip as (path, line, reason), a failure as a traceback."""
    if isinstance(report.longrepr, tuple):
        text = report.longrepr[2]
    else:
        crash = getattr(report.longrepr, "reprcrash", None)
        text = str(report.longrepr if crash is None else crash.message)
    return text.strip().partition("\n")[0][:300]


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """The earliest hook: arq's conftest itself imports the worker and the container."""
    _stand_in_for_testcontainers()
    worker = _load_worker(os.environ["ARQ_SUITE_WORKER"])
    early_config.pluginmanager.register(Suite(worker, Path(os.environ["ARQ_SUITE_REPORT"])), "arq-suite")

"""A real Prometheus that scrapes and evaluates every second, and whose alerts do not wait for minutes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

START_TIMEOUT_S: Final = 30.0
_ASK_TIMEOUT_S: Final = 10.0
_UNITS: Final = {"s": 1, "m": 60, "h": 3600}
_DURATION: Final = re.compile(r"(\bfor: |\[|offset )(\d+)([smh])")
_AGE: Final = re.compile(r"(fetchq_oldest_due_seconds\) > )(\d+)")


class Sample(NamedTuple):
    """One element of the result of a query."""

    labels: dict[str, str]
    value: float


def shortened(rules: str, by: float, at_most_s: float = 3600) -> str:
    """The rules with every time divided: what alerts wait for, what they look back on, and how old a job may be.

    No time is below two seconds, since a rate needs two scrapes.
    """

    def divided(match: re.Match[str]) -> str:
        seconds = int(match[2]) * _UNITS[match[3]] / by
        return f"{match[1]}{round(min(at_most_s, max(2.0, seconds)))}s"

    return _AGE.sub(lambda match: f"{match[1]}{int(match[2]) / by:g}", _DURATION.sub(divided, rules))


class Prometheus:
    """One server in a folder of its own. Raises `RuntimeError` if it does not start."""

    def __init__(
        self,
        binary: str,
        folder: Path,
        port: int,
        targets: Mapping[str, tuple[str, Sequence[str]]],
        rules: str,
        *,
        timeout_s: float = 0.9,
    ) -> None:
        """`targets`: by job, the path and the addresses."""
        self._url: Final = f"http://127.0.0.1:{port}"
        folder.mkdir()
        (folder / "alerts.yml").write_text(rules, encoding="utf-8")
        config = {
            "global": {
                "scrape_interval": "1s",
                "scrape_timeout": f"{round(timeout_s * 1000)}ms",
                "evaluation_interval": "1s",
            },
            "rule_files": ["alerts.yml"],
            "scrape_configs": [
                {"job_name": job, "metrics_path": path, "static_configs": [{"targets": list(addresses)}]}
                for job, (path, addresses) in targets.items()
            ],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
        self._log: Final = folder / "log"
        with self._log.open("wb") as log:
            self._process: Final = subprocess.Popen(
                [
                    binary,
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                    "--log.level=warn",
                ],
                stdout=log,
                stderr=log,
                cwd=folder,
            )
        self._wait_ready()

    @staticmethod
    def find() -> str | None:
        return shutil.which("prometheus")

    def _wait_ready(self) -> None:
        until = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                with urllib.request.urlopen(f"{self._url}/-/ready", timeout=_ASK_TIMEOUT_S):
                    return
            except OSError:  # not listening yet, or 503
                if self._process.poll() is not None or time.monotonic() > until:
                    self.stop()
                    raise RuntimeError(f"Prometheus did not start: {self._log.read_text()}") from None
            time.sleep(0.02)

    def _get(self, path: str, **parameters: str) -> Any:
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=_ASK_TIMEOUT_S) as reply:
                return json.load(reply)["data"]
        except urllib.error.HTTPError as refusal:
            raise ValueError(json.load(refusal)["error"]) from refusal

    def query(self, promql: str) -> list[Sample]:
        """The value of a query now. Raises `ValueError` for what is not PromQL."""
        data = self._get("query", query=promql)
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(one["metric"], float(one["value"][1])) for one in data["result"]]

    def series(self) -> set[str]:
        """The names of all series."""
        return set(self._get("label/__name__/values"))

    def rules(self) -> dict[str, dict[str, Any]]:
        """Each alert, with its `state` and `health`."""
        groups = self._get("rules", type="alert")["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {name for name, rule in self.rules().items() if rule["state"] == "firing"}

    def targets_down(self) -> list[str]:
        """The addresses whose last scrape failed, and why."""
        found = self._get("targets", state="active")["activeTargets"]
        return [f"{one['scrapeUrl']}: {one['lastError']}" for one in found if one["health"] != "up"]

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

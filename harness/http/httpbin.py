"""httpbin (Kenneth Reitz's, as shipped by pytest-httpbin) in its own process, and the expected outcomes of fetches."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from fetchq import FetchRequest, FetchResult, RetryPolicy

ROOT: Final = Path(__file__).resolve().parents[2]
SITE: Final = ROOT / ".conformance" / "httpbin"
PINS: Final = Path(__file__).with_name("constraints.txt")

_SERVE: Final = """
import sys
from httpbin import app
from pytest_httpbin.serve import Server
with Server(application=app) as server:
    print(server.port, flush=True)
    sys.stdin.read()
"""

Check = Callable[[FetchResult], bool]

_TEXT: Final = ("Content-Type", "text/plain")
_JSON: Final = ("Content-Type", "application/json")

# What is asked for: path and request options; and what must come of it.
ROWS: Final[list[tuple[str, dict[str, Any], Check]]] = [
    ("/get?a=1&b=%20", {}, lambda it: it.data["args"] == {"a": "1", "b": " "}),
    ("/headers", {"headers": (("X-A", "b"),)}, lambda it: it.data["headers"]["X-A"] == "b"),
    ("/user-agent", {}, lambda it: it.data["user-agent"] == "fetchq-conformance/1"),
    ("/post", {"method": "POST", "body": b'{"a": 1}', "headers": (_JSON,)}, lambda it: it.data["json"] == {"a": 1}),
    ("/post", {"method": "POST", "body": b"x", "headers": (_TEXT,)}, lambda it: it.data["data"] == "x"),
    ("/put", {"method": "PUT", "body": b"x", "headers": (_TEXT,)}, lambda it: it.data["data"] == "x"),
    ("/patch", {"method": "PATCH", "body": b"x", "headers": (_TEXT,)}, lambda it: it.data["data"] == "x"),
    ("/delete", {"method": "DELETE"}, lambda it: it.ok and it.data["data"] == ""),
    ("/anything", {"method": "OPTIONS"}, lambda it: it.http_status == 200),
    ("/get", {"method": "HEAD"}, lambda it: it.ok and it.body == b""),
    ("/status/200", {}, lambda it: it.ok),
    ("/status/204", {}, lambda it: it.ok and it.body == b""),
    ("/status/404", {}, lambda it: (it.status, it.http_status) == ("HTTP_ERROR", 404)),
    ("/status/418", {}, lambda it: (it.status, it.http_status) == ("HTTP_ERROR", 418) and "teapot" in it.text),
    ("/status/503", {"retry": RetryPolicy(max_tries=3, base_s=0)}, lambda it: len(it.attempts) == 3),
    ("/redirect/3", {}, lambda it: it.ok and len(it.redirects) == 3),
    ("/relative-redirect/3", {}, lambda it: it.ok and len(it.redirects) == 3),
    ("/absolute-redirect/3", {}, lambda it: it.ok and len(it.redirects) == 3),
    ("/redirect/5", {"max_redirects": 4}, lambda it: it.status == "TOO_MANY_REDIRECTS"),
    ("/redirect/1", {"max_redirects": 0}, lambda it: (it.status, it.http_status) == ("HTTP_ERROR", 302)),
    (
        "/redirect-to?url=/anything&status_code=307",
        {"method": "POST", "body": b"x", "headers": (_TEXT,)},
        lambda it: (it.data["method"], it.data["data"]) == ("POST", "x"),
    ),
    (
        "/redirect-to?url=/anything&status_code=303",
        {"method": "POST", "body": b"x", "headers": (_TEXT,)},
        lambda it: (it.data["method"], it.data["data"]) == ("GET", ""),
    ),
    ("/redirect-to?url=ftp://127.0.0.1/", {}, lambda it: it.status == "INVALID_URL"),
    ("/redirect-to?url=http://10.0.0.1/", {}, lambda it: it.status == "BLOCKED"),
    ("/gzip", {}, lambda it: it.data["gzipped"] is True),
    ("/deflate", {}, lambda it: it.data["deflated"] is True),
    ("/brotli", {}, lambda it: it.data["brotli"] is True),
    ("/encoding/utf8", {}, lambda it: "⡌⠁⠧⠑" in it.text),
    ("/html", {}, lambda it: it.media_type == "text/html" and "Herman Melville" in it.data),
    ("/xml", {}, lambda it: it.media_type == "application/xml" and "slideshow" in it.data),
    ("/json", {}, lambda it: it.data["slideshow"]["title"] == "Sample Slide Show" and it.data_error is None),
    ("/image/png", {}, lambda it: it.media_type == "image/png" and it.data.startswith(b"\x89PNG")),
    ("/image/svg", {}, lambda it: it.media_type == "image/svg+xml" and isinstance(it.data, str)),
    ("/base64/ZmV0Y2hx", {}, lambda it: it.text == "fetchq"),
    ("/bytes/1024?seed=1", {}, lambda it: it.body_size == 1024),
    ("/bytes/5000?seed=1", {"max_bytes": 4999}, lambda it: it.status == "TOO_LARGE"),
    ("/bytes/5000?seed=1", {"max_bytes": 5000}, lambda it: it.ok),
    ("/stream/5", {}, lambda it: it.text.count("\n") == 5),
    ("/stream-bytes/10000?seed=1&chunk_size=7", {}, lambda it: it.body_size == 10_000),
    ("/range/1024", {"headers": (("Range", "bytes=0-9"),)}, lambda it: (it.http_status, it.body_size) == (206, 10)),
    ("/drip?numbytes=5&duration=1&delay=0", {}, lambda it: it.body == b"*****"),
    ("/drip?numbytes=5&duration=5&delay=0", {"timeout_s": 1}, lambda it: it.status == "TIMEOUT"),
    ("/delay/3", {"read_timeout_s": 0.5}, lambda it: it.status == "TIMEOUT"),
    ("/basic-auth/u/p", {}, lambda it: it.http_status == 401),
    ("/basic-auth/u/p", {"headers": (("Authorization", "Basic dTpw"),)}, lambda it: it.data["authenticated"]),
    ("/bearer", {"headers": (("Authorization", "Bearer t"),)}, lambda it: it.data["token"] == "t"),
    ("/etag/abc", {"headers": (("If-None-Match", '"abc"'),)}, lambda it: it.status == "NOT_MODIFIED"),
    ("/cache", {"headers": (("If-Modified-Since", "x"),)}, lambda it: it.status == "NOT_MODIFIED"),
    ("/response-headers?X-A=b&X-A=c", {}, lambda it: [v for n, v in it.headers if n == "X-A"] == ["b", "c"]),
]


def install() -> None:
    """Installs pytest-httpbin into its own folder: it needs an old greenlet, which is not built for every Python."""
    if (SITE / "pytest_httpbin").is_dir():
        return
    print("Installing httpbin ...", flush=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--target", str(SITE), "-c", str(PINS), "pytest-httpbin"], check=True)


@contextmanager
def serving() -> Iterator[str]:
    """The origin of httpbin."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _SERVE],
        env={"PYTHONPATH": str(SITE), "PATH": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def request_of(origin: str, path: str, options: dict[str, Any]) -> FetchRequest:
    return FetchRequest(url=origin + path, **{"retry": RetryPolicy(max_tries=1), **options})

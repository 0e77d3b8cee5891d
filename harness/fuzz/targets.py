"""Every decoder of outside bytes, as a function of any bytes that raises only for a fault.

A target accepts the documented errors of its decoder, checks its other guarantees, and lets all other exceptions
through. hypothesis runs the targets for seconds (`test_targets.py`), atheris for any time (`make fuzz`).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
from arq.jobs import DeserializationError, deserialize_job_raw

from fetchq import (
    FetchError,
    FetchRequest,
    InvalidRedisURL,
    InvalidRequest,
    JobFailed,
    NewerWireVersion,
    WireError,
)
from fetchq.command.exit_status import CommandFailed
from fetchq.command.settings import ENV_PREFIX, InvalidSetting
from fetchq.command.streams import printable
from fetchq.contract import wire
from fetchq.contract.text.charset import decode_text
from fetchq.contract.text.json_text import parse_json
from fetchq.contract.urls import origin_of
from fetchq.inspect import workers
from fetchq.store.address import RedisAddress
from fetchq.store.connection import connect
from fetchq_worker.cli.bulk.requests import FetchLimits, RequestSource
from fetchq_worker.cli.bulk.result_file import ResultFile
from fetchq_worker.cli.bulk.result_line import encode_line
from fetchq_worker.cli.bulk.url_lines import LineSplitter
from fetchq_worker.engine.run.job import checked
from fetchq_worker.fetch.access.cookies import Cookies
from fetchq_worker.fetch.access.credentials import read_credentials
from fetchq_worker.fetch.cache.directives import directives_of
from fetchq_worker.fetch.cache.entries import Entry, decode_entry
from fetchq_worker.fetch.cache.freshness import is_usable, is_usable_after_error, keep_s
from fetchq_worker.fetch.cache.storing import may_store
from fetchq_worker.fetch.cache.validation import is_not_modified, validators_of
from fetchq_worker.fetch.content.charset import charset_of
from fetchq_worker.fetch.content.content_type import content_type_of
from fetchq_worker.fetch.content.encoding import ContentDecoder, codings_of
from fetchq_worker.fetch.content.errors import BrokenCoding, CodingTooLarge
from fetchq_worker.fetch.http.redirect import Hop, next_hop
from fetchq_worker.fetch.job.history import decode_history
from fetchq_worker.fetch.robots.rules import RobotsRules, product_token, rules_for
from fetchq_worker.fetch.transport.errors import BodyBroken, HeadTooLarge, ResponseMalformed
from fetchq_worker.fetch.transport.framing import Chunked
from fetchq_worker.fetch.transport.head import HEAD_END, may_become_head, parse_head
from fetchq_worker.politeness.retry_after import retry_after_s
from fetchq_worker.settings import Settings

Target = Callable[[bytes], None]

URL: Final = "https://example.org/a?b#c"
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
MAX_DECODED: Final = 1 << 20


def job(data: bytes) -> None:
    """A payload under `arq:job:`, as a worker reads it."""
    try:
        name, args, _, _, _ = checked(deserialize_job_raw(data, deserializer=wire.deserialize))
    except DeserializationError:
        return
    if name == wire.FETCH_FUNCTION and args:
        request_of(args[0])


def request(data: bytes) -> None:
    """A request in a job: an accepted one is equal after encoding and decoding."""
    try:
        value = msgspec.msgpack.decode(data)
    except (msgspec.DecodeError, RecursionError, ValueError, OverflowError):
        return
    request_of(value)


def request_of(value: Any) -> None:
    try:
        taken = wire.decode_request(value)
    except (InvalidRequest, NewerWireVersion) as problem:
        str(problem).encode()
        return
    [again] = wire.deserialize(wire.encode_job("fetch_data", (taken,), {}, 1))["a"]
    assert wire.decode_request(again) == taken
    assert taken.url.isascii()
    assert FetchRequest(url=taken.url).url == taken.url


def options(data: bytes) -> None:
    """The options of a request from a command line: `field=value` a line."""
    given: dict[str, Any] = {"url": URL}
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        name, _, value = line.partition("=")
        match name:
            case "headers" | "form":
                given[name] = [tuple(value.partition(":")[::2])]
            case "tags":
                given[name] = value.split(",")
            case "url" | "method" | "key" | "etag" | "last_modified" | "credential" | "proxy":
                given[name] = value
    try:
        request_of(FetchRequest.of(**given))
    except InvalidRequest as problem:
        printable(str(problem)).encode()


def result(data: bytes) -> None:
    """A result under `arq:result:`, as a producer and the command line read it."""
    try:
        stored = wire.decode_stored(data)
    except WireError as problem:
        str(problem).encode()
        return
    with contextlib.suppress(WireError, JobFailed):
        wire.decode_value(stored)
    with contextlib.suppress(WireError):
        wire.deserialize(data)
    try:
        taken = wire.decode_result(stored, "j")
    except WireError:
        return
    assert (taken.data_error is None) or isinstance(taken.data, str)
    printable(repr(taken.text))
    msgspec.json.decode(encode_line(taken.url, taken))
    with contextlib.suppress(FetchError):
        taken.raise_for_status()


def attempts(data: bytes) -> None:
    """A value of `fetchq:attempts:`."""
    kept = decode_history(data)
    assert kept.made <= len(kept.attempts)


def worker_record(data: bytes) -> None:
    """A value of `fetchq:worker:`."""
    known = workers.decode_record(data)
    if known is not None:
        printable(known.host)


def cache_entry(data: bytes) -> None:
    """A value of `fetchq:cache:`, and its headers."""
    found = decode_entry(data)
    if not isinstance(found, Entry):
        return
    stored = found.response()
    requested = directives_of(stored.headers.getall("Cache-Control"))
    is_usable(requested, stored, 1e9)
    is_usable_after_error(requested, stored, 1e9)
    may_store(requested, False, stored)
    assert keep_s(stored, 1e9) >= 0.0
    validators_of(stored)
    is_not_modified(Hop("https://a.example/", "GET", (("If-None-Match", '"x"'),)), stored)
    retry_after_s(tuple(stored.headers.items()), NOW)


def settings(data: bytes) -> None:
    """Environment variables: `NAME=value` a line."""
    environ = {}
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        name, _, value = line.partition("=")
        environ[ENV_PREFIX + name.upper()] = value.replace("\0", "")
    try:
        Settings.from_env(environ)
    except InvalidSetting as problem:
        assert str(problem)


def redis_url(data: bytes) -> None:
    """An address of Redis; its password must not appear in messages."""
    text = data.decode("utf-8", "replace")
    try:
        address = RedisAddress.parse(text)
    except InvalidRedisURL as problem:
        assert str(problem)
        return
    connect(address)
    for secret in (address.password, address.sentinel_password):
        if secret is not None and len(secret) > 3 and text.count(secret) == 1:
            assert secret not in f"{address} {address!r}"


def credentials_file(data: bytes) -> None:
    """The worker's secrets, in TOML."""
    path = _scratch()
    path.write_bytes(data)
    try:
        held = read_credentials(path)
    except InvalidSetting as problem:
        assert str(problem)
        return
    repr(held)


def url_lines(data: bytes) -> None:
    """A file of URLs: any split into chunks gives the same lines; each becomes a request or a reason."""
    whole = LineSplitter()
    lines = whole.feed(data[1:]) + whole.finish()
    size = data[0] % 7 + 1 if data else 1
    pieces = LineSplitter()
    cut = [line for at in range(1, len(data), size) for line in pieces.feed(data[at : at + size])] + pieces.finish()
    assert cut == lines
    requests = RequestSource(FetchLimits())
    assert len(requests.parse(lines)) + requests.duplicates == len(lines)


def result_file(data: bytes) -> None:
    """The --out file of an earlier run: refused unchanged, or cut after its last complete line."""
    path = _scratch()
    path.write_bytes(data)
    with ResultFile(path, resume=True) as file:
        try:
            written = sum(1 for _ in file.truncate_partial_line())
        except CommandFailed:
            assert path.read_bytes() == data
            return
    left = path.read_bytes()
    assert data.startswith(left)
    assert left.count(b"\n") == written
    assert not left or left.endswith(b"\n")


def robots(data: bytes) -> None:
    """A robots.txt."""
    token = product_token(data.decode("latin-1"))
    rules = RobotsRules(rules_for(token, data))
    rules.allow(URL)
    assert rules.crawl_delay_s is None or rules.crawl_delay_s >= 0


def cookies(data: bytes) -> None:
    """Set-Cookie fields, one a line: what is sent back was in one of them, and stays in its line."""
    text = data.decode("latin-1")
    jar = Cookies()
    jar.update(URL, text.split("\n"), 1e9)
    sent = jar.header(URL, 1e9) or ""
    assert "\r" not in sent
    for pair in filter(None, sent.split("; ")):
        assert pair.rpartition("=")[2].strip(" \t") in text


def text_body(data: bytes) -> None:
    """A body of text with its Content-Type, which is the first line."""
    header, _, body = data.partition(b"\n")
    media_type, charset = content_type_of((header.decode("latin-1"),))
    decode_text(body, charset_of(media_type, charset, body))


def json_body(data: bytes) -> None:
    """A body of JSON with its charset as the first line."""
    charset, _, body = data.partition(b"\n")
    with contextlib.suppress(ValueError, RecursionError):
        parse_json(body, charset.decode("latin-1"))


def encoded_body(data: bytes) -> None:
    """A body with its Content-Encoding as the first line: the output is bounded."""
    header, _, body = data.partition(b"\n")
    with contextlib.suppress(BrokenCoding, CodingTooLarge):
        decoder = ContentDecoder(codings_of([header.decode("latin-1")]), MAX_DECODED)
        sizes = (len(piece) for piece in islice(decoder.decode(body), 1000))
        assert sum(sizes) <= 1000 * (1 << 16)
        decoder.check_ended()


def location(data: bytes) -> None:
    """The Location of a redirect."""
    hop = Hop(URL, "POST", (("Authorization", "x"), ("Accept", "y")), b"z")
    try:
        to = next_hop(hop, 302, data.decode("latin-1"))
    except InvalidRequest as problem:
        assert str(problem)
        return
    assert to.url.startswith(("http://", "https://"))
    assert origin_of(to.url) == origin_of(URL) or all(name != "Authorization" for name, _ in to.headers)


def response_head(data: bytes) -> None:
    """The head of a response: what begins like no head is none, and nothing passes its fields' lines."""
    found = HEAD_END.search(data)
    if found is None:
        may_become_head(data)
        return
    try:
        head = parse_head(data[: found.end()])
    except ResponseMalformed:
        return
    assert may_become_head(data)
    assert 100 <= head.status <= 999
    assert head.length is None or not head.chunked
    assert head.problem is None or not head.keep_alive
    for name, value in head.headers.items():
        assert name.isascii()
        assert not set("\r\n\0") & set(name + value)


def chunked_body(data: bytes) -> None:
    """A chunked body is read alike at once and byte by byte."""
    ends = []
    for step in (len(data) or 1, 1):
        framing, body = Chunked(), b""
        problem = None
        try:
            for at in range(0, len(data), step):
                if framing.ended:
                    break
                body += framing.feed(data[at : at + step])
        except (BodyBroken, HeadTooLarge) as broken:
            problem = type(broken)
        ends.append((problem or body, framing.ended, problem is None and framing.keep_alive))
    assert ends[0] == ends[1]


TARGETS: Final[dict[str, Target]] = {
    target.__name__: target
    for target in (
        job,
        request,
        options,
        result,
        attempts,
        worker_record,
        cache_entry,
        settings,
        redis_url,
        credentials_file,
        url_lines,
        result_file,
        robots,
        cookies,
        text_body,
        json_body,
        encoded_body,
        location,
        response_head,
        chunked_body,
    )
}


def _scratch() -> Path:
    """A temporary file, in memory if possible, that only its owner may read."""
    folder = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())
    path = folder / f"fetchq-fuzz-{os.getpid()}"
    if not path.exists():
        path.touch(mode=0o600)
    return path


def remove_scratch() -> None:
    _scratch().unlink(missing_ok=True)

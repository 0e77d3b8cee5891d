"""Initial inputs of fuzzing: small well-formed ones for each target, and past findings."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Final

import msgspec
from tests.support.wire_cases import encoded

from fetchq.contract import wire
from fetchq.contract.request import WIRE_VERSION
from fetchq_worker.fetch.cache.entries import Entry

FOUND: Final = Path(__file__).parent / "found"
"""Past findings: `<target>-<what>`."""


def _frozen(prefix: str) -> list[bytes]:
    return [data for name, data in sorted(encoded().items()) if name.startswith(prefix)]


_JOBS: Final = _frozen("job-")
_REQUESTS: Final = [msgspec.msgpack.encode(wire.deserialize(data)["a"][0]) for data in _JOBS]
_CACHED: Final = Entry(
    200,
    [
        ("Cache-Control", 'max-age=60, stale-if-error="5"'),
        ("Date", "Tue, 14 Nov 2023 22:13:20 GMT"),
        ("Vary", "Accept"),
        ("Retry-After", "5"),
        ("ETag", '"x"'),
    ],
    b"body",
    1e9,
    1e9,
)
_LINE: Final = json.dumps({"id": "j", "url": "https://example.org/", "status": "OK"}).encode() + b"\n"

SEEDS: Final[dict[str, list[bytes]]] = {
    "job": _JOBS,
    "request": [*_REQUESTS, msgspec.msgpack.encode({"url": "https://example.org/", "v": WIRE_VERSION + 1})],
    "options": [
        b'url=https://example.org/\nmethod=GET\nheaders=X-A: b\ntags=a,b\nkey=k\ncredential=c\nproxy=p\netag="x"',
        b"method=POST\nform=a:b\nlast_modified=Tue, 14 Nov 2023 22:13:20 GMT",
    ],
    "result": _frozen("result-"),
    "attempts": _frozen("attempts-"),
    "worker_record": [b'{"id":"w","host":"h","pid":1,"version":"1","queue":"q","functions":["f"],"running":1}'],
    "cache_entry": [msgspec.msgpack.encode(_CACHED)],
    "settings": [
        b"concurrency=5\nallow_net=10.0.0.0/8 ::1/128\nallow_port=22,25\nlease_s=1e1\nverbose=true\nuser_agent=x/1"
    ],
    "redis_url": [
        b"redis://user:pass%40word@[::1]:6379/1?db=2",
        b"rediss+sentinel://:secret@a,b:1/master/0?sentinel_password=hidden",
        b"unix://u:secret@/run/redis.sock?db=1",
    ],
    "credentials_file": [
        b'[credentials.a]\nkind = "basic"\nusername = "u"\npassword = "p"\norigins = ["https://a.example"]\n'
        b'[credentials.b]\nkind = "certificate"\ncertificate = "c.pem"\norigins = ["https://b.example"]\n'
        b'[proxies.p]\nurl = "http://p.example:8080"\nusername = "u"\npassword = "p"\n'
    ],
    "url_lines": [b"\x03\xef\xbb\xbfhttps://example.org/\r\n# comment\n\nHTTP://EXAMPLE.org\r\xff\nnot a url"],
    "result_file": [_LINE, _LINE * 2 + _LINE[:20], b"other\n"],
    "robots": [b"fetchq/1\nUser-agent: *\nDisallow: /a*b$\nAllow: /\xc3\xa9%zz\nCrawl-delay: 1.5\nSitemap: x"],
    "cookies": [
        b"a=b; Path=/; Domain=.example.org; Max-Age=60\n__Host-c=\xe9==; Secure; path=/"
        b'\nd="x, y" ; Expires=Thu, 01-Jan-2099 00:00:00 GMT; HttpOnly; SameSite=None\na=; max-age=0'
    ],
    "text_body": [
        b'text/html; charset="utf-8"\n<meta charset=koi8-r><?xml encoding="x"?>\xff\xfea',
        b"text/html\n<meta http-equiv=content-type content='text/html; charset=windows-1252'>\x80",
        b"text/html; charset=gbk, text/html\n\x80\xa3\xa0\x81\x30\x81\x30\xff",
        b"text/html; charset=iso-2022-jp\n\x1b$B-!\x1b(J~\x1b(I1",
        b'text/css; x="\\\n@charset "big5";\xa2A\x87\x7a',
        b"\n\x8f\xa2\xb7\xad\xa1",
    ],
    "json_body": [b'latin1\n{"a": ["\\ud83d", 1e400, "\xe9", NaN]}', b'\n\xef\xbb\xbf"\xc3\xa9"', b'\n"\0a\0"\0'],
    "encoded_body": [
        b"gzip\n" + gzip.compress(b"x" * 99, mtime=0),
        b"deflate, gzip\n" + gzip.compress(zlib.compress(b"y" * 99), mtime=0),
        b"br\n\x0b\x02\x80hello\x03",
        b"zstd\n\x28\xb5\x2f\xfd\x04\x00\x19\x00\x00abc\x0c\xf1\xf6\x19",
    ],
    "location": [b"//user@other.example/../x?y#z", "/ä%zz\\..\\#".encode(), b"https:example.org:443/"],
    "response_head": [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\nConnection: keep-alive\r\nX-A: \xe9\r\n\r\n",
        b"http/2.0  404\nTransfer-Encoding: identity,\n chunked\nX A: b\n: c\nContent-Length:\n\n",
    ],
    "chunked_body": [b'5;a="b"\r\nhello\r\n0\r\nX: y\r\n\r\nrest', b"1 \na\n00\nX y\n\n", b"zz\r\n"],
}


def seeds_of(target: str) -> list[bytes]:
    return SEEDS[target] + [path.read_bytes() for path in sorted(FOUND.glob(f"{target}-*"))]

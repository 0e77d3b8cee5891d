"""Scrapy in the crawl: the same URLs, concurrency and output lines; run by `scrapy runspider`."""

import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import scrapy
from scrapy.http import Request, Response

_given = json.loads(os.environ["FETCHQ_BENCH_CRAWL"])


class FetchSpider(scrapy.Spider):
    """Fetches every URL of the file, one item each. Politeness settings are off, as in the comparison."""

    name = "fetch"
    custom_settings = {  # noqa: RUF012 - the form that Scrapy requires
        "CONCURRENT_REQUESTS": _given["concurrency"],
        "CONCURRENT_REQUESTS_PER_DOMAIN": _given["per_host"],
        "DOWNLOAD_DELAY": 0,
        "ROBOTSTXT_OBEY": False,
        "LOG_LEVEL": "ERROR",
        "TELNETCONSOLE_ENABLED": False,
        "FEEDS": {_given["out"]: {"format": "jsonlines", "overwrite": True}},
    }

    async def start(self) -> AsyncIterator[Request]:
        with Path(_given["urls"]).open() as lines:
            for line in lines:
                yield Request(line.strip(), callback=self.parse)

    def parse(self, response: Response, **_: Any) -> Iterator[dict[str, Any]]:
        yield {"url": response.url, "http_status": response.status, "text": response.text}

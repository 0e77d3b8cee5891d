"""Exceptions of a fetch, beside those of `fetch.transport.errors`. `failure.failure_of` turns them into outcomes."""

from __future__ import annotations

from fetchq import FetchqError, FetchStatus


class BodyTooLarge(Exception):
    """The decoded body is larger than `max_bytes`."""


class TooManyRedirects(Exception):
    """The response redirects once more than `max_redirects`."""

    def __init__(self, *, cookies_ignored: bool) -> None:
        hint = "; they set cookies, which cookies=True (--cookies) would send back" if cookies_ignored else ""
        super().__init__(f"there are more redirects than max_redirects{hint}")


class RequestRefused(Exception):
    """The worker does not send this request. The message is the error of the result."""

    def __init__(self, status: FetchStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class RobotsUnavailable(RequestRefused):
    """A URL is not requested as long as its origin's robots.txt cannot be had (RFC 9309, section 2.3.1.4)."""

    def __init__(
        self, status: FetchStatus, error: str, http_status: int | None, *, lasts_s: float, again_in_s: float
    ) -> None:
        """`status`, `error` and `http_status` are the last failure, which began `lasts_s` ago."""
        super().__init__(status, f"robots.txt cannot be had: {error}")
        self.http_status = http_status
        self.lasts_s = lasts_s
        self.again_in_s = again_in_s
        """When robots.txt is requested again."""


class SendingAborted(FetchqError):
    """Raised by `Phases.before_send`: nothing is sent, and the attempt ends without an outcome."""

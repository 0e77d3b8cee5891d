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


class SendingAborted(FetchqError):
    """Raised by `Phases.before_send`: nothing is sent, and the attempt ends without an outcome."""

"""fetchq_gateway: what operators and monitoring reach of a queue over HTTP, without a worker.

`gateway_app` is the ASGI app; `fetchq serve` serves it. It is imported when it is first used, so that `fetchq --help`
does not load a web framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app import gateway_app

__all__ = ["gateway_app"]


def __getattr__(name: str) -> Any:
    if name != "gateway_app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .app import gateway_app  # noqa: PLC0415  # Starlette takes 50 ms to load

    return gateway_app

"""fetchq_gateway: what operators and other services reach over HTTP of a queue, without a worker.

`gateway_app` is the ASGI app; `fetchq serve` serves it.
"""

from __future__ import annotations

from .app import gateway_app

__all__ = ["gateway_app"]

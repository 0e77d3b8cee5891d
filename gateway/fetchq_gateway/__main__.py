"""`python -m fetchq_gateway`."""

from __future__ import annotations

from .cli import main

main()

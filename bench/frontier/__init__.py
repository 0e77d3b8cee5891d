"""Measures the guarantees of per-host limits: `python -m bench.frontier`."""

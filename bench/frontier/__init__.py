"""The frontier's promises in numbers: `python -m bench.frontier`."""

"""One file per peer. Each runs in that peer's own environment, so it imports nothing of the harness but its neighbours.

A file answers to two words: `producer` serves commands on its standard input (`serve.py`), `worker` runs jobs.
"""

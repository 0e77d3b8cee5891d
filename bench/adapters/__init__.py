"""One module for each peer.

Each runs in that peer's own environment, so it imports only modules of this folder. It has two commands: `producer`
executes commands from its standard input (`serve.py`), `worker` runs jobs.
"""

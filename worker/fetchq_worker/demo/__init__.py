"""The main job, shown: `make demo`, or `python -m fetchq_worker.demo`."""

"""The main job, shown: `make demo`, or `python -m examples.demo`."""

"""Side-by-side benchmarks: `make bench` and `make profile` (docs/performance.md)."""

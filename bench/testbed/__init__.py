"""The test bed of a benchmark: Redis, the web site, and the peers with their environments and processes."""

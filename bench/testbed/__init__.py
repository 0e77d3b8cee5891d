"""What a benchmark runs on: Redis, the web site, the peers with their environments and processes."""

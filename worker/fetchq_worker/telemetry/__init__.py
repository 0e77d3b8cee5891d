"""What a worker tells of its jobs: typed events, and what is made of them."""

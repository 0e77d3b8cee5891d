"""What is counted and measured of a queue, and its traces."""

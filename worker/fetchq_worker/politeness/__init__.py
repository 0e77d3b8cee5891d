"""Whose turn it is: the limits of hosts, and what a job tells of its own."""

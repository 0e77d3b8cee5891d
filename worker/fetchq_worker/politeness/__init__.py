"""Limits of hosts as HTTP sees them: limit keys, cooldowns, and what a fetch reports about its host."""

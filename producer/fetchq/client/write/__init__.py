"""Puts jobs on the queue: batches, capacity and durability."""

"""Peers whose jobs are plain functions, in threads or greenlets, and whose producers block.

A call of such a producer blocks its event loop, which nothing else uses.
"""

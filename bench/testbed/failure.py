"""Errors of a measure. A peer's failure is its result, as a sentence; it never ends the run."""


class BenchFailure(Exception):
    """A measure could not be taken. The message appears in the table in place of the number."""


class Unavailable(BenchFailure):
    """Something that the bench needs is not installed. The message says what to install."""

"""What went wrong in a measure. A peer's failure is that peer's result, in words; it never ends the run."""


class BenchFailure(Exception):
    """A measure could not be taken. The sentence stands in the table where the number would."""


class Unavailable(BenchFailure):
    """Something that the bench needs is not on this machine. The sentence says what to install."""

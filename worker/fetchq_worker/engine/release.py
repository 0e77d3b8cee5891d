"""How a coroutine gives its job back."""

from arq.worker import Retry


class Release(Retry):
    """Raised by a coroutine that leaves its job to another worker or a later time: due after `defer_s` seconds, and
    this try is not counted. Under stock arq it is a `Retry`, which counts.
    """

    def __init__(self, defer_s: float) -> None:
        super().__init__(defer=defer_s)
        self.defer_s = defer_s

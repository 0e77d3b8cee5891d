"""What a settings class says to the engine's worker, all of it.

arq's own `get_kwargs` takes what arq's own worker knows: it would leave out the gate, the lease and the dead letters,
and what is measured would not be what `fetchq worker` runs.
"""

from __future__ import annotations

import inspect
from typing import Any, Final

from fetchq_worker.engine import Worker

_OPTIONS: Final = frozenset(inspect.signature(Worker).parameters)


def worker_options(settings_class: type) -> dict[str, Any]:
    """The arguments for `Worker` that a class made by `worker_settings` describes."""
    return {name: value for name, value in vars(settings_class).items() if name in _OPTIONS}

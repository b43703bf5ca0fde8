"""What plain functions run in, where many messages are handled at a time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from flowstat.errors import RunError
from flowstat.run.behaviour import Behaviour
from flowstat.run.event import ELSEWHERE

__all__ = ["Together", "open_pool"]


@dataclass(frozen=True)
class Together:
    """How messages are handled at a time.

    Attributes
    ----------
    at_once
        So many runs, and so many events of nodes without a state, at most.
    pool
        What plain functions run in: `thread`, or `process` (several cores; states and bodies are pickled); None: in the
        loop itself, one at a time. In virtual time always that.
    workers
        Threads or processes of the pool.
    """

    at_once: int = 100
    pool: str | None = "thread"
    workers: int = 4

    def __post_init__(self) -> None:
        if self.pool not in (None, "thread", "process"):
            raise RunError(f"a pool is of 'thread' or 'process', or None, not {self.pool!r}")
        for name in ("at_once", "workers"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise RunError(f"{name} is a whole number of at least 1, not {value!r}")


def open_pool(together: Together, behaviours: Mapping[str, Behaviour]) -> Executor:
    """Open the pool; a process of it has the behaviours already."""
    if together.pool == "thread":
        return ThreadPoolExecutor(together.workers, "flowstat")
    ELSEWHERE.clear()
    ELSEWHERE.update(behaviours)
    # Forked here, before there are threads: the processes have the behaviours, whatever file they come from.
    pool = ProcessPoolExecutor(together.workers, get_context("fork"))
    pool.submit(os.getpid).result()
    return pool

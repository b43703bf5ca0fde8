"""An asyncio event loop in virtual time: where it would wait, its clock jumps."""

from __future__ import annotations

import asyncio
import math
import selectors
from typing import Any

from flowstat.run.moments import SECOND

__all__ = ["VirtualLoop"]


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time is virtual: `asyncio.sleep(3600)` takes no time, and what is due first is done first.

    Examples
    --------
    >>> with asyncio.Runner(loop_factory=VirtualLoop) as runner:
    ...     runner.run(asyncio.sleep(3600))
    ...     runner.get_loop().nanoseconds()
    3600000000000
    """

    def __init__(self, start: int = 0) -> None:
        self._elapsed = 0.0
        self._start = start
        super().__init__(_Jumping(self))
        self._clock_resolution: float = 1 / SECOND

    def time(self) -> float:
        """Return the virtual time in seconds since the loop began."""
        return self._elapsed

    def nanoseconds(self) -> int:
        """Return the virtual time in nanoseconds since 1970."""
        return self._start + round(self._elapsed * SECOND)

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self._elapsed += seconds
        # After half a year a float has no nanoseconds left: a timer that is due has to be seen as due.
        self._clock_resolution = max(self._clock_resolution, math.ulp(self._elapsed))


class _Jumping(selectors.DefaultSelector):
    """A selector that lets virtual time pass where it would wait for a time."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        """Return what is ready at once; only where nothing is due at any time, wait for it."""
        if timeout is None:
            return super().select(None)
        found = super().select(0)
        if not found and timeout > 0:
            self._loop.jump(timeout)
        return found

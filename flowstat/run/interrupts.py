"""Ctrl-C while a loop runs: it ends between two events."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

__all__ = ["INTERRUPTED", "Interruptible", "deferred_interrupts"]

INTERRUPTED = "interrupted."


class Interruptible(Protocol):
    """A loop that can be told to end: `pulling` while it waits for what is outside, `finishing` when it ends."""

    pulling: bool
    finishing: bool
    interrupts: int

    def interrupt(self) -> None:
        """End before the next event."""


CALLERS = {
    ("flowstat.run.untimed", "run"),
    ("flowstat.run.timed", "_handle"),
    ("flowstat.run.handlers", "run"),
    ("flowstat.run.handlers", "call"),
    ("flowstat.run.handlers", "call_async"),
}
"""Functions of ours, by their modules, that call behaviours."""


def _in_behaviour(frame: FrameType | None) -> bool:
    """Whether a behaviour runs, or what it calls: within a function of ours a row may be half done."""
    innermost = frame
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith("flowstat."):
            return frame is not innermost and (name, frame.f_code.co_name) in CALLERS
        frame = frame.f_back
    return False


@contextmanager
def deferred_interrupts(loop: Interruptible) -> Iterator[None]:
    """Let Ctrl-C end the loop between two events; a second one ends it inside a behaviour.

    Where the program has a handler of its own for the signal, or is not in its main thread, that stays.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return

    def interrupt(_number: int, frame: FrameType | None) -> None:
        if loop.finishing:
            return
        loop.interrupts += 1
        loop.interrupt()
        if loop.pulling or (loop.interrupts > 1 and _in_behaviour(frame)):
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)

"""Ctrl-C in tests: what Python does on it, at once."""

import signal
import sys

__all__ = ["press"]


def press():
    """Do what Ctrl-C does: a signal that is sent waits for a while where the process has other threads."""
    signal.getsignal(signal.SIGINT)(signal.SIGINT, sys._getframe(1))

"""Ratios of two timings taken side by side: a machine's speed and its noise fall out of them."""

import gc
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Row(NamedTuple):
    """What a benchmark yields: `ratio` is to be `sense` ("at most" or "at least") `bound`."""

    name: str
    ratio: float
    bound: float
    sense: str
    detail: str

    @property
    def holds(self) -> bool:
        return self.ratio <= self.bound if self.sense == "at most" else self.ratio >= self.bound


def seconds(work: Callable[[], object]) -> float:
    gc.collect()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def alternate(*works: Callable[[], object], repetitions: int = 7) -> list[list[float]]:
    """Time each of `works` in turn, over and over, after one turn that does not count."""
    for work in works:
        work()
    turns = [[seconds(work) for work in works] for _ in range(repetitions)]
    return [list(times) for times in zip(*turns, strict=True)]


def median_ratio(over: list[float], under: list[float]) -> float:
    """Return the median of the ratios of timings taken in the same turn."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))

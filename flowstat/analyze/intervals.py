"""Intervals of the numbers of a result: how they are asked for, kept and told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal

from flowstat.analyze.interval import Asked, Interval, Sampling, by_delta, by_sampling
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain
from flowstat.read.words import shown
from flowstat.results import Result, number

__all__ = ["DOUBTS", "Intervals", "WithIntervals", "check_level", "how_many", "intervals_of"]

Intervals = Literal["delta", "sample"] | Sampling | None
"""How intervals are found: by the gradient of the answer, by chains that are drawn from the posterior, or not."""

WORK = 5_000_000
"""Arrows that intervals may look at in all: of what a result lists, the first have one."""

MOST = 50
"""How many numbers of a result have an interval at most."""

NAMED = 5

DOUBTS = {
    "few": "What these hang on was seen less than five times, so that their intervals say much of the prior",
    "curved": "Too few data for quick intervals; chains drawn from the traces give better ones (--intervals sample)",
}
"""What is said of intervals that are in doubt."""


@dataclass(frozen=True)
class WithIntervals(Result):
    """A result with intervals of its numbers.

    `sure` has them by column and line, as `probability:ship`; there are none where no traces stand behind the chain.
    `level` is the probability with which each holds its number.
    """

    sure: Mapping[str, Interval] = field(default_factory=dict, kw_only=True, hash=False)
    level: float = field(default=0.95, kw_only=True)

    def between(self, column: str, line: str) -> tuple[float | None, float | None]:
        """Return the interval of a number; None, None if it has none."""
        found = self.sure.get(f"{column}:{line}")
        return (None, None) if found is None else (found.low, found.high)

    def printed(self) -> tuple[str, ...]:
        """Return the columns that a printed table has: no intervals where there are none."""
        return tuple(c for c in super().printed() if self.sure or c not in ("low", "high"))

    def told(self, column: str, line: str) -> str:
        """Return an interval in words, to stand behind its number; nothing if there is none."""
        found = self.sure.get(f"{column}:{line}")
        return "" if found is None else f" ({number(found.low)} to {number(found.high)})"

    def said(self) -> list[str]:
        """Say what the intervals are, and where the gradient is not enough for them."""
        if not self.sure:
            return []
        said = [f"Intervals hold their number with {self.level:.0%} probability, by what the traces show."]
        for doubt, why in DOUBTS.items():
            some = [key.strip(":").replace(":", " of ", 1) for key, each in self.sure.items() if each.doubt == doubt]
            if some:
                said.append(f"{why}: {', '.join(map(shown, some[:NAMED]))}{', ...' * (len(some) > NAMED)}.")
        return said


def check_level(level: float) -> None:
    """Check a level.

    Raises
    ------
    AnalysisError
        If it is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise AnalysisError(f"a level is between 0 and 1, not {level}")


def intervals_of(
    chain: Chain,
    way: Intervals,
    level: float,
    asked: Callable[[], Mapping[str, Asked]],
    again: Callable[[Chain], Mapping[str, float]],
) -> dict[str, Interval]:
    """Return the intervals of the numbers of a result; none without traces.

    Parameters
    ----------
    asked
        The numbers, for the delta method.
    again
        The numbers of another chain; one that is not there is 0.

    Raises
    ------
    AnalysisError
        If the way is none, or the level is not between 0 and 1.
    """
    check_level(level)
    if way is None or (posterior := chain.posterior) is None:
        return {}
    if way == "delta":
        found = {key: by_delta(posterior, each, level) for key, each in asked().items()}
        return {key: each for key, each in found.items() if each is not None}
    if way == "sample":
        way = Sampling()
    if not isinstance(way, Sampling):
        raise AnalysisError(f"intervals are found by 'delta' or 'sample', not {shown(repr(way))}")
    keys = [key for key, value in again(chain).items() if isfinite(value)][:MOST]

    def numbers(other: Chain) -> list[float]:
        found = again(other)
        return [found.get(key, 0.0) for key in keys]

    return dict(zip(keys, by_sampling(posterior, numbers, level, way), strict=True))


def how_many(chain: Chain) -> int:
    """Return how many numbers of a result have an interval, by what one of a chain costs."""
    return max(1, min(MOST, WORK // (chain.P.nnz + len(chain.names))))

"""Latencies as sums and a quantile sketch: additive, of fixed accuracy, and small however many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from math import ceil, log

__all__ = ["GROWTH", "Latency", "bucket"]

GROWTH = 1.02
"""Each bucket of the sketch ends this many times later than the one before: quantiles are off by 1% at most."""


def bucket(nanoseconds: int) -> int:
    """Return the bucket of a latency: bucket k holds those in (GROWTH**(k-1), GROWTH**k] ns, bucket 0 those up to 1."""
    return ceil(log(nanoseconds) / log(GROWTH)) if nanoseconds > 1 else 0


@dataclass(frozen=True)
class Latency:
    """What is known of many latencies, in nanoseconds.

    Two add up with `+` to that of all of them.

    Attributes
    ----------
    number, total, squares
        How many there are, their sum and the sum of their squares, exact.
    buckets
        How many fall in each bucket of the sketch.

    Notes
    -----
    The sketch is that of C. Masson, J. E. Rim and H. K. Lee, DDSketch, PVLDB 12 (2019): buckets that grow
    geometrically, and so quantiles with a relative error that is bounded whatever the latencies are.

    Examples
    --------
    >>> three = Latency.of([1_000, 2_000, 6_000])
    >>> three.mean, round(three.quantile(0.5))
    (3000.0, 1987)
    """

    number: int = 0
    total: int = 0
    squares: int = 0
    buckets: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, nanoseconds: list[int]) -> Latency:
        """Return what is known of some latencies, none negative."""
        numbers = Counter(map(bucket, nanoseconds))
        return cls(len(nanoseconds), sum(nanoseconds), sum(n * n for n in nanoseconds), dict(sorted(numbers.items())))

    def __add__(self, other: Latency) -> Latency:
        if not isinstance(other, Latency):
            return NotImplemented
        buckets = Counter(self.buckets)
        buckets.update(other.buckets)
        return Latency(
            self.number + other.number,
            self.total + other.total,
            self.squares + other.squares,
            dict(sorted(buckets.items())),
        )

    @property
    def mean(self) -> float:
        """Mean in nanoseconds."""
        return self.total / self.number

    @property
    def variance(self) -> float:
        """Variance in square nanoseconds, of these latencies themselves."""
        return (self.squares * self.number - self.total**2) / self.number**2

    def quantile(self, share: float) -> float:
        """Return the latency that a share in [0, 1] of them does not exceed, within 1%, in nanoseconds."""
        rank = share * (self.number - 1)
        passed = accumulate(self.buckets.values())
        at = next(k for k, n in zip(self.buckets, passed, strict=True) if n > rank)
        return 2 * GROWTH**at / (1 + GROWTH) if at else 1.0

"""How long the messages of every pair of nodes take: mean and variance, from traces or as stated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from flowstat.analyze.bounded import Mask
from flowstat.analyze.pairs import pair_of
from flowstat.analyze.solve import Vector
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import END, Chain
from flowstat.estimate.latency import Latency
from flowstat.read.words import shown

__all__ = ["ArrowTimes", "Latencies", "Stated", "arrow_times", "read_latencies"]

Stated = Latency | tuple[float, float]
"""A latency as recorded, in nanoseconds, or as stated: (mean, standard deviation) in seconds."""

Latencies = Mapping[tuple[str, str], Stated]
"""(source, target) -> latency; the target `(end)` is what the last event of a run takes there."""

NANO = 1e-9

OFF = 8.0
"""By how many rounding units a mean, or the square of a deviation, may be off, relatively."""

LEAST, MOST = 1e-250, 1e250
"""Between which a mean lies that is not 0: sums of such times neither vanish nor overflow."""

NAMED = 4


@dataclass(frozen=True)
class ArrowTimes:
    """The latency of every arrow of a chain, in the order of its `arrows`, and of every end.

    Attributes
    ----------
    mean, deviation : (m,)
        Of each arrow, in seconds. The deviation, not its square: that may overflow.
    end_mean, end_deviation : (n,)
        Of the last event of a run, where it stops at a node; 0 where none is known.
    known
        The latencies by (source, target).
    """

    mean: Vector
    deviation: Vector
    end_mean: Vector
    end_deviation: Vector
    known: Latencies

    @property
    def any_end(self) -> bool:
        """Whether the last event of a run takes time."""
        return bool(self.end_mean.any() or self.end_deviation.any())

    @property
    def stated(self) -> bool:
        """Whether some latency is stated by mean and standard deviation only, of which the latter is not 0."""
        return any(not isinstance(value, Latency) and value[1] > 0 for value in self.known.values())


def arrow_times(chain: Chain, latencies: Latencies | None, needed: Mask) -> ArrowTimes:
    """Return the latencies of a chain's arrows.

    Parameters
    ----------
    chain
        A chain; if it was estimated from counts, their latencies are taken.
    latencies
        Latencies that are stated; they go before those of the counts.
    needed : (m,)
        Which arrows need one.

    Raises
    ------
    AnalysisError
        If an arrow that needs a latency has none (the message says what to do), or one that is stated is no latency.
    """
    recorded: Latencies = chain.counts.latencies if chain.counts is not None else {}
    known: dict[tuple[str, str], Stated] = {pair: value for pair, value in recorded.items() if _number(value)}
    for pair, value in (latencies or {}).items():
        known[pair] = _checked(chain, pair, value)
    n = len(chain.names)
    rows, columns, _ = chain.arrows()
    place = rows * n + columns
    order = np.argsort(place, kind="stable")
    pairs, moments = [], []
    end = np.zeros((2, n))
    for (source, target), value in known.items():
        i, j = chain.index.get(source), chain.index.get(target)
        if i is not None and target == END:
            end[:, i] = _moments(value)
        elif i is not None and j is not None:
            pairs.append(i * n + j)
            moments.append(_moments(value))
    made = np.zeros((2, len(place)))
    found = np.zeros(len(place), bool)
    if pairs and len(place):
        wanted = np.array(pairs, np.int64)
        at = np.minimum(np.searchsorted(place, wanted, sorter=order), len(place) - 1)
        hit = place[order[at]] == wanted
        made[:, order[at[hit]]] = np.array(moments).T[:, hit]
        found[order[at[hit]]] = True
    missing = np.flatnonzero(needed & ~found)
    if len(missing):
        raise AnalysisError(_advice(chain, rows[missing], columns[missing], bool(recorded)))
    return ArrowTimes(made[0], made[1], end[0], end[1], known)


def _number(value: Stated) -> bool:
    return not isinstance(value, Latency) or value.number > 0


def _moments(value: Stated) -> tuple[float, float]:
    """Return mean and deviation in seconds; mean and squared deviation are off by fewer than `OFF` rounding units."""
    if isinstance(value, Latency):
        return value.mean * NANO, sqrt(value.variance) * NANO
    return value


def _checked(chain: Chain, pair: tuple[str, str], value: Stated) -> Stated:
    """Return a latency that is stated, if it is one of a pair of nodes of the chain."""
    try:
        source, target = pair
    except (TypeError, ValueError):
        raise AnalysisError(f"a latency is stated for a pair (source, target), not {shown(repr(pair))}") from None
    for name in (source, target):
        if name not in chain.index and (name != END or source == END):
            raise AnalysisError(f"a latency is stated for {shown(repr(pair))}: no node is called {shown(str(name))!r}")
    what = f"the latency of {shown(source)} -> {shown(target)}"
    if isinstance(value, Latency):
        if not value.number:
            raise AnalysisError(f"{what} is that of no message at all")
        return value
    try:
        mean, deviation = (float(part) for part in value)
    except (TypeError, ValueError):
        raise AnalysisError(f"{what} is (mean, standard deviation) in seconds, not {shown(repr(value))}") from None
    if not (np.isfinite(mean) and np.isfinite(deviation) and mean >= 0 and deviation >= 0):
        raise AnalysisError(f"{what} has mean and standard deviation of at least 0, not {mean:g} and {deviation:g}")
    if max(mean, deviation) > MOST or 0 < mean < LEAST:
        raise AnalysisError(
            f"{what} has a mean that is 0 or from {LEAST:g} to {MOST:g}, and a deviation up to that, not {mean:g} and "
            f"{deviation:g}: state all of them in another unit of time"
        )
    if deviation > 0 and not mean:
        raise AnalysisError(f"{what} has the mean 0, and so no standard deviation but 0")
    return mean, deviation


def _advice(chain: Chain, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], recorded: bool) -> str:
    """Say which pairs lack a latency, and what to do about it."""
    names = [f"{shown(chain.names[i])} -> {shown(chain.names[j])}" for i, j in zip(rows, columns, strict=True)][:NAMED]
    listed = ", ".join(names) + (f" and {len(rows) - NAMED:,} more" if len(rows) > NAMED else "")
    if chain.counts is not None and not recorded and chain.counts.events:
        advice = "count the traces with their latencies (flowstat count --latencies; count(..., latencies=True))"
        return f"no latency is known of {listed}: {advice}, if they have times, or state them"
    if recorded and chain.prior > 0:
        advice = "no message was seen there, and only the prior lets runs pass: estimate with prior 0, or state them"
    else:
        advice = "state them as {(source, target): (mean, standard deviation)} in seconds"
    return f"no latency is known of {listed}: {advice}"


def read_latencies(chain: Chain, stated: Iterable[str]) -> Latencies:
    """Read latencies that are written as `a -> b=0.5` or `a -> b=0.5,0.1`: mean and deviation in seconds.

    Raises
    ------
    AnalysisError
        If one can't be read, or names no nodes of the chain.

    Examples
    --------
    >>> read_latencies(Chain.from_matrix([[0, 1], [0, 1]], ["a", "b"]), ["a -> b=0.5,0.1"])
    {('a', 'b'): (0.5, 0.1)}
    """
    found: dict[tuple[str, str], Stated] = {}
    for text in stated:
        what, equals, value = text.rpartition("=")
        pair = pair_of(chain, what) if equals else None
        mean, _, deviation = value.partition(",")
        try:
            moments = float(mean), float(deviation or 0)
        except ValueError:
            pair = None
        if pair is None:
            raise AnalysisError(f"{shown(text)!r} is no latency of two nodes: write 'a -> b=0.5' or 'a -> b=0.5,0.1'")
        found[pair] = _checked(chain, pair, moments)
    return found

"""How long messages are under way in virtual time: constants, and laws that a journal can keep."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf, log, sqrt
from random import Random
from typing import Any

from flowstat.errors import RunError
from flowstat.read.graph import Graph
from flowstat.read.words import shown
from flowstat.run.behaviour import unknown_node
from flowstat.run.moments import LONGEST, SECOND, nanoseconds
from flowstat.run.network import Delay

__all__ = ["LatencyLaw", "VirtualTime"]


@dataclass(frozen=True)
class LatencyLaw:
    """The law of a time in seconds.

    Attributes
    ----------
    mean, sd
        With `sd` 0 the time is always `mean`; else it is lognormal with this mean and standard deviation (at most
        a million times as large), the usual shape of response times; a draw beyond 126 years is cut there.
    values, weights
        Where given, the time is one of these recorded values, each as often as its weight says (evenly without any);
        `mean` and `sd` are not used then.

    Raises
    ------
    RunError
        For a time or a weight that is negative or no number, or a time too long to be kept (126 years).

    Examples
    --------
    >>> from random import Random
    >>> LatencyLaw(0.5).draw(Random(1))
    0.5
    >>> LatencyLaw(values=(0.1, 0.2), weights=(0, 3)).draw(Random(1))
    0.2
    """

    mean: float = 0.0
    sd: float = 0.0
    values: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        numbers = (self.mean, self.sd, *self.values, *self.weights)
        if not all(isinstance(x, (int, float)) and 0 <= x < inf for x in numbers):
            raise RunError(f"a latency is told by numbers of 0 or more, not {shown(repr(self))}")
        for time in (self.mean, *self.values):
            nanoseconds(time)
        if self.weights and (len(self.weights) != len(self.values) or not 0 < sum(self.weights) < inf):
            raise RunError("the weights of recorded latencies are as many as these, and not all 0")
        if self.sd and not self.sd <= 1e6 * self.mean:
            raise RunError(
                f"a latency that varies (sd {self.sd:g}) has a mean above 0, and above a millionth of its sd"
            )

    def draw(self, random: Random) -> float:
        """Return one time in seconds."""
        return self._draw()(random)

    def delay(self, random: Random) -> Delay:
        """Return what draws one time after the other, in nanoseconds."""
        draw = self._draw()
        return lambda: min(round(draw(random) * SECOND), LONGEST)

    def _draw(self) -> Callable[[Random], float]:
        if self.values:
            values, bounds = self.values, list(accumulate(self.weights or (1.0,) * len(self.values)))
            last = max(k for k, b in enumerate(bounds) if b > (bounds[k - 1] if k else 0))
            return lambda random: values[min(bisect_left(bounds, (1 - random.random()) * bounds[-1]), last)]
        if not self.sd:
            return lambda random: self.mean
        # The lognormal law whose mean and variance are these.
        variance = log(1 + (self.sd / self.mean) ** 2)
        centre, spread = log(self.mean) - variance / 2, sqrt(variance)
        return lambda random: random.lognormvariate(centre, spread)


@dataclass(frozen=True)
class VirtualTime:
    """A clock that jumps from one event to the next: an hour of a program passes in seconds.

    Attributes
    ----------
    latencies
        How long a message is under way: one law for all, or one for each pair (sender, target); the sender None is for
        injected messages, and a pair that is not there takes no time. Seconds stand for a law that does not vary.
    every
        Seconds between two injections, or their law; None: the next one comes when nothing is left of the one before.
    start
        Where the clock begins: nanoseconds since 1970.

    Raises
    ------
    RunError
        For what is no law, pair or time.
    """

    latencies: LatencyLaw | float | Mapping[tuple[str | None, str], LatencyLaw | float] = field(default_factory=dict)
    every: LatencyLaw | float | None = None
    start: int = 0

    def __post_init__(self) -> None:
        laws = self.latencies.values() if isinstance(self.latencies, Mapping) else (self.latencies,)
        for law in (*laws, *(() if self.every is None else (self.every,))):
            _law(law)
        if isinstance(self.latencies, Mapping):
            for pair in self.latencies:
                if not (isinstance(pair, tuple) and len(pair) == 2):
                    raise RunError(f"latencies are told by pairs (sender, target), not {shown(repr(pair))}")
        if not isinstance(self.start, int) or isinstance(self.start, bool) or not 0 <= self.start < 2**62:
            raise RunError(f"virtual time starts at a whole number of nanoseconds since 1970, not {self.start!r}")

    def check(self, graph: Graph) -> None:
        """Check that all pairs are of nodes of a graph.

        Raises
        ------
        RunError
            If one is not.
        """
        for pair in self.latencies if isinstance(self.latencies, Mapping) else ():
            for node in pair:
                if node is not None and node not in graph.outgoing:
                    raise RunError(f"a latency is told for {shown(repr(pair))}: {unknown_node(node, graph)}")

    def delays(self, seed: int) -> Callable[[str | None, str], Delay | None]:
        """Return what tells how messages of a pair of nodes are delayed; the same seed, the same delays."""
        # Of its own: latencies do not change what behaviours draw.
        random = Random(f"latencies of {seed}")
        given = self.latencies
        if not isinstance(given, Mapping):
            every = _law(given).delay(random) if given else None
            return lambda parent, target: None if parent is None else every
        laws = {pair: _law(law).delay(random) for pair, law in given.items() if law}
        return lambda parent, target: laws.get((parent, target))

    def gap(self, seed: int) -> Delay | None:
        """Return what draws the time from one injection to the next, if that is told."""
        return None if self.every is None else _law(self.every).delay(Random(f"arrivals of {seed}"))

    def to_dict(self) -> dict[str, Any]:
        """Return it as data that a journal can keep."""
        given = self.latencies if isinstance(self.latencies, Mapping) else {}
        one = None if isinstance(self.latencies, Mapping) else vars(_law(self.latencies))
        return {
            "latencies": [[*pair, vars(_law(law))] for pair, law in given.items()],
            "latency": one,
            "every": None if self.every is None else vars(_law(self.every)),
            "start": self.start,
        }

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> VirtualTime:
        """Return the virtual time that was kept so."""

        def law(kept: Mapping[str, Any]) -> LatencyLaw:
            return LatencyLaw(kept["mean"], kept["sd"], tuple(kept["values"]), tuple(kept["weights"]))

        pairs = {(parent, target): law(found) for parent, target, found in kept["latencies"]}
        one, every = kept["latency"], kept["every"]
        return cls(pairs if one is None else law(one), None if every is None else law(every), kept["start"])


def _law(law: object) -> LatencyLaw:
    if isinstance(law, LatencyLaw):
        return law
    if isinstance(law, (int, float)) and not isinstance(law, bool):
        return LatencyLaw(law)
    raise RunError(f"a latency is a number of seconds or a LatencyLaw, not {law!r}")

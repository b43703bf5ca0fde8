"""After how many steps so many of all runs have come somewhere: step by step, and far beyond what can be stepped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import ClassVar, NamedTuple

import numpy as np

from flowstat.analyze.aim import Targets, aim_at, arrives, chance, weighted
from flowstat.analyze.derived import whole
from flowstat.analyze.exact_steps import settled
from flowstat.analyze.quantile_search import QuantileSearch
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain, Start, start_law
from flowstat.read.words import shown
from flowstat.results import LINEAGES, Result, Row, number

__all__ = ["Quantile", "Quantiles", "Tie", "quantiles"]


class Quantile(NamedTuple):
    """The least number of steps within which at least `chance` of all runs have got there.

    It lies from `low` to `high`, proven; all three are equal where it is known exactly, and infinite where so many
    never get there. `steps` is None where only the bracket is known.
    """

    chance: float
    steps: float | None
    low: float
    high: float


class Tie(NamedTuple):
    """A share that is, within rounding, the chance to get there by some step.

    As it is stored, and the chain, `steps` are the quantile, which has been found exactly; were they a rounding off, it
    might be `otherwise`. Either may be infinite: so many never get there.
    """

    chance: float
    steps: float
    otherwise: float


@dataclass(frozen=True)
class Quantiles(Result):
    """Quantiles of the number of steps, in the order in which they were asked for; `reached` get there at all."""

    title: ClassVar[str] = "Quantiles: within how many steps runs get there"
    columns: ClassVar[tuple[str, ...]] = Quantile._fields
    beside: ClassVar[tuple[str, ...]] = ("low", "high")
    targets: tuple[str, ...]
    quantiles: tuple[Quantile, ...]
    reached: float
    reached_bound: float = 0.0
    fans_out: bool = False
    ties: tuple[Tie, ...] = ()
    """The shares that could only be told exactly from the chance to get there by some step."""

    @property
    def error_bound(self) -> float:
        """How far any finite quantile may be off, in steps."""
        known = [q for q in self.quantiles if q.steps is not None and isfinite(q.steps)]
        return max((max(q.high - q.steps, q.steps - q.low) for q in known if q.steps is not None), default=0.0)

    def rows(self) -> list[Row]:
        """Return one row a quantile."""
        return [q._asdict() for q in self.quantiles]

    def notes(self) -> tuple[str, ...]:
        """Say which quantiles are never reached, and which are not known exactly."""
        said = [f"A run {arrives(self.targets)} with probability {number(self.reached)}."]
        if any(q.low == inf for q in self.quantiles):
            said.append("Where more runs are asked for than are there after any number of steps, it is infinite.")
        for tie in self.ties:
            said.append(
                f"{number(tie.chance)} is, within rounding, the chance to be there by some step: as the numbers are "
                f"stored it is reached {_words(tie.steps)}; were they a rounding off, maybe {_words(tie.otherwise)}."
            )
        for q in self.quantiles:
            if q.low != q.high:
                to = f"to {q.high:.12g} steps" if isfinite(q.high) else "steps or more, if ever"
                said.append(f"{number(q.chance)} is reached within {q.low:.12g} {to}.")
        return (*said, LINEAGES) if self.fans_out else tuple(said)


def _words(steps: float) -> str:
    return f"with step {steps:.12g}" if isfinite(steps) else "never"


def quantiles(
    chain: Chain,
    targets: Targets | None = None,
    chances: Sequence[float] | float = (0.5, 0.9, 0.99),
    start: Start = None,
    limit: int | None = None,
) -> Quantiles:
    """Find within how many steps given shares of all runs have come to some nodes, or to their end.

    Parameters
    ----------
    chain
        A chain.
    targets
        A node or several; the end of the run if not given. Then the number of steps is that of the run's events.
    chances
        Which shares of all runs, each above 0 and below 1.
    start
        A node or a law over nodes; the chain's start law if not given.
    limit
        Up to how many steps are taken one by one; what a few seconds allow, and a million, if not given.

    Returns
    -------
    Quantiles
        For each share the least t with `P[T <= t]` of at least as much, and a proven bracket of it. A share that is
        next to `P[T <= t]` is compared with it exactly, as both are stored, where t is not large; `ties` has them.

    Raises
    ------
    ChainError
        If the start is no law over the nodes.
    AnalysisError
        If a share or the limit is out of range, no target is named or one is no node, or a class is too large and too
        close to closed to be solved.

    Notes
    -----
    Within the limit the law of T is stepped through: a few states by powers of Q, so that it costs only the logarithm
    of the steps. Farther off, let y be the law of where runs are, N = (I - Q)^-1, w = y N, and `a <= w_i / y_i <= b`:
    since `w Q = w - y`, `w (1 - 1/a) <= w Q <= w (1 - 1/b)` entry by entry, and so
    `(a/b) (1 - 1/a)^k <= y Q^k h / y h <= (b/a) (1 - 1/b)^k`. Once the shape of y no longer changes (it is then the
    quasi-stationary law; Seneta, Non-negative Matrices and Markov Chains (2006), section 3.2), a and b are the same to
    many digits, and so are quantiles of 10^19 steps. Periodic classes are averaged over their turns, which is worth as
    many steps. Without such a shape the mean bounds them (Markov).

    Examples
    --------
    >>> slow = Chain.from_matrix([[1 - 2**-50, 2**-50], [0, 1]], ["wait", "done"])
    >>> [found] = quantiles(slow, "done", 0.5).quantiles
    >>> round(found.steps * 2**-50, 9)  # log 2
    0.693147181
    """
    try:
        asked = tuple(np.atleast_1d(np.asarray(chances, np.float64)).tolist())
    except (TypeError, ValueError):
        raise AnalysisError(f"shares of the runs are numbers, not {shown(repr(chances))}") from None
    for q in asked:
        if not 0 < q < 1:
            raise AnalysisError(f"a share of the runs is above 0 and below 1, not {q:g}")
    if limit is not None:
        limit = whole("a limit", limit, 1)
    law = start_law(chain, start)
    aim = aim_at(chain, targets)
    hit, _ = aim.chances
    reached, doubt = weighted(law, hit)
    search = QuantileSearch(aim, law, hit, [q for q in sorted(set(asked)) if q <= reached + doubt])
    found = search.found(limit)
    result, ties = [], []
    for q in asked:
        steps, low, high = found.get(q, (inf, inf, inf))
        if low < high and low <= search.forward.time:
            # Rounding alone keeps apart what has been stepped through.
            first, last = settled(aim, law, (low, high), q, limit or inf)
            if first == last:
                if first in (low, high):
                    ties.append(Tie(q, first, high if first == low else low))
                steps = first
            elif first > low:
                steps = None if last > 2 * first else steps if steps is not None and steps >= first else first
            low, high = first, last
        result.append(Quantile(q, steps, low, high))
    return Quantiles(aim.names, tuple(result), chance(reached), doubt, chain.fans_out, tuple(ties))

"""Mixing: how many steps until it no longer matters where a run came into a closed class."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, log, log1p, sqrt
from typing import ClassVar, Literal

from flowstat.analyze.gaps import gaps
from flowstat.analyze.long_run import NAMED, class_name
from flowstat.analyze.perron import part_of
from flowstat.analyze.powers import by_powers, followed
from flowstat.analyze.solve import Solved, Solver
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain
from flowstat.results import Result, Row

__all__ = ["ClassMixing", "Mixing", "mixing"]

POWERS = 500
"""Up to how many states the powers of a class are computed."""

SLACK = 1e-9
"""What is left to rounding where a bound is computed from a gap."""

Method = Literal["powers", "gap", "gap, estimated", "norm", "followed", "periodic"]


@dataclass(frozen=True)
class ClassMixing:
    """The mixing time of a closed class, between `at_least` and `at_most`; `steps` where they agree, else None.

    `method` says where `at_most` is from: `powers` of the class; `gap` between its eigenvalues; `gap, estimated`, where
    it was found by iteration, and no proof is there that none nearer to 1 was missed; `norm`, a bound for classes that
    are not reversible; `followed`: there is none, and `at_least` is from runs that start at single states;
    `periodic`: it never mixes.
    """

    name: str
    size: int
    period: int
    at_least: float
    at_most: float
    method: Method

    @property
    def steps(self) -> float | None:
        """The mixing time, if it is known."""
        return self.at_least if self.at_least == self.at_most else None


@dataclass(frozen=True)
class Mixing(Result):
    """The mixing times of the closed classes, in bounds that are proven but for `at_most` where it is estimated."""

    title: ClassVar[str] = "Mixing: steps until it does not matter where a run came in"
    columns: ClassVar[tuple[str, ...]] = ("class", "size", "period", "steps", "at_least", "at_most", "method")
    epsilon: float
    classes: tuple[ClassMixing, ...]

    @property
    def error_bound(self) -> float:
        """How far apart the two bounds are at most."""
        return max((0.0 if c.steps is not None else c.at_most - c.at_least for c in self.classes), default=0.0)

    def rows(self) -> list[Row]:
        """Return one row a closed class."""
        return [{"class": c.name, **{k: getattr(c, k) for k in self.columns[1:]}} for c in self.classes]

    def notes(self) -> tuple[str, ...]:
        """Say what the steps are until, and why some are infinite."""
        if not self.classes:
            return ("Every run ends, and nothing is there to mix: restart the runs (--restarted).",)
        said = [f"Mixed: from the worst start within {self.epsilon:g} of the stationary law, in total variation."]
        if any(c.method == "periodic" for c in self.classes):
            said.append("A periodic class never mixes: at which turn it is stays as it was at the start.")
        if any(c.method == "gap, estimated" for c in self.classes):
            said.append("Estimated: the eigenvalue is one of the class, but that none is larger is not proven.")
        if any(c.method == "followed" for c in self.classes):
            said.append("No upper bound: the class is too large, or too slow, for what is known of such classes.")
        return tuple(said)


def mixing(chain: Chain, epsilon: float = 0.25) -> Mixing:
    """Find the mixing time of every closed class.

    Parameters
    ----------
    chain
        A chain. If its runs end, ask this of `restart(chain)`.
    epsilon
        Distance in total variation, above 0 and below 1/2.

    Returns
    -------
    Mixing
        The least t for which, from every state, the law after t steps is within epsilon of the stationary one; for
        large classes bounds of it; `inf` for periodic classes.

    Raises
    ------
    AnalysisError
        If epsilon is out of range, or the stationary law of a class can't be computed.

    Notes
    -----
    Up to 500 states by repeated squaring, and bisection, with what rounding may do to the powers added up (n units a
    product): O(n^3 log t). Where that is not enough: `log(1 / 2 eps) / -log |lambda| <= t` for any eigenvalue other
    than 1, and `d(t) <= r^t / (2 sqrt(min pi))` with r the largest of them in a reversible class (Levin, Peres, Wilmer,
    Markov Chains and Mixing Times (2017), section 12.2 and lemma 12.18), or a norm: see `flowstat.analyze.gaps`; and at
    least as long as it takes from some single states.

    Examples
    --------
    >>> [row["steps"] for row in mixing(Chain.from_matrix([[0.9, 0.1], [0.1, 0.9]])).rows()]
    [4.0]
    """
    if not 0 < epsilon < 0.5:
        raise AnalysisError(f"epsilon is a distance above 0 and below 1/2, not {epsilon:g}")
    solver = Solver(chain.P, chain.stop)
    found = [_class(chain, solver, c, epsilon) for c, part in enumerate(solver.classes) if part.closed]
    return Mixing(epsilon, tuple(found))


def _class(chain: Chain, solver: Solver, c: int, epsilon: float) -> ClassMixing:
    states = solver.classes[c].states
    n = len(states)
    name = class_name(tuple(chain.names[i] for i in states[: NAMED + 1]), n)
    if n == 1:
        return ClassMixing(name, 1, 1, 0.0, 0.0, "powers")
    part = part_of(solver, c)
    if part.period > 1:
        return ClassMixing(name, n, part.period, inf, inf, "periodic")
    law = Solved(part.left, part.left * part.left_doubt)
    if n <= POWERS:
        least, most = by_powers(part.matrix().toarray(), law, epsilon, solver.unit)
        if most < inf:
            return ClassMixing(name, n, 1, least, most, "powers")
    else:
        least = followed(part.matrix(), law, epsilon, solver.unit)
    speed = gaps(part, solver.unit)
    smallest = float((law.values - law.bound).min())
    away = log(max(1.0, 1 / (2 * epsilon * sqrt(smallest)))) if smallest > 0 else inf
    least = max(least, _ceiling((1 - SLACK) * log(1 / (2 * epsilon)) * _rate(speed.most)))
    most = max(least, _ceiling((1 + SLACK) * away * _rate(speed.least)))
    return ClassMixing(name, n, 1, least, most, speed.method if most < inf else "followed")


def _rate(gap: float) -> float:
    """Return the steps it takes a speed `1 - gap` to fall by a factor e."""
    if gap >= 1:
        return 0.0
    return -1 / log1p(-gap) if gap > 0 else inf


def _ceiling(steps: float) -> float:
    return float(ceil(steps)) if steps < inf else inf

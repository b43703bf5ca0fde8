"""How long a closed class takes from node to node: mean first passage times, return times, Kemeny's constant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import sparse

from flowstat.analyze.all_pairs import all_passages
from flowstat.analyze.bounded import dot, exact, minus, plus, quotient, times
from flowstat.analyze.long_run import NAMED, class_name
from flowstat.analyze.solve import Index, Solved, Solver, Vector, total
from flowstat.errors import AnalysisError, ChainError
from flowstat.estimate.chain import Chain
from flowstat.read.words import shown
from flowstat.results import Result, Row, number

__all__ = ["FirstPassage", "Kemeny", "closed_class", "first_passage", "kemeny"]

MATRIX = 500
"""Up to how many nodes of a class all pairs are solved for."""


@dataclass(frozen=True, eq=False)
class FirstPassage(Result):
    """Mean first passage times within a closed class.

    Attributes
    ----------
    sources, targets
        Nodes of the class: s and t of them.
    steps, steps_bound : (s, t)
        Expected number of messages from a source until it comes to a target; from a node to itself that until it comes
        back, the mean return time.
    kemeny
        Kemeny's constant of the class: the expected steps to a node drawn from the stationary law, 0 where it is there
        already; the same from every node. None unless all pairs were asked for.
    """

    title: ClassVar[str] = "Mean first passage times"
    columns: ClassVar[tuple[str, ...]] = ("source", "target", "steps", "error_bound")
    beside: ClassVar[tuple[str, ...]] = ("error_bound",)
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    steps: Vector
    steps_bound: Vector
    kemeny: float | None = None
    kemeny_bound: float = 0.0

    @property
    def error_bound(self) -> float:
        """How far any of the times may be off, proven: see `flowstat.analyze.solve`."""
        return float(self.steps_bound.max())

    def rows(self) -> list[Row]:
        """Return one row a pair."""
        pairs = [(s, t) for s in self.sources for t in self.targets]
        found = zip(pairs, self.steps.ravel().tolist(), self.steps_bound.ravel().tolist(), strict=True)
        return [dict(zip(self.columns, (*pair, *numbers), strict=True)) for pair, *numbers in found]

    def notes(self) -> tuple[str, ...]:
        """Say what the diagonal is, and Kemeny's constant."""
        said = "From a node to itself: the mean return time."
        if self.kemeny is None:
            return (said,)
        return (said, f"Kemeny's constant, the steps to a node drawn from the long run: {number(self.kemeny)}.")


@dataclass(frozen=True)
class Kemeny(Result):
    """Kemeny's constant of every closed class: (class, constant, bound)."""

    title: ClassVar[str] = "Kemeny's constant: expected steps to a node drawn from the long run"
    columns: ClassVar[tuple[str, ...]] = ("class", "size", "kemeny", "error_bound")
    beside: ClassVar[tuple[str, ...]] = ("error_bound",)
    classes: tuple[str, ...]
    sizes: tuple[int, ...]
    constants: tuple[float, ...]
    bounds: tuple[float, ...]

    @property
    def error_bound(self) -> float:
        """How far any of the constants may be off, proven: see `flowstat.analyze.solve`."""
        return max(self.bounds, default=0.0)

    def rows(self) -> list[Row]:
        """Return one row a closed class."""
        found = zip(self.classes, self.sizes, self.constants, self.bounds, strict=True)
        return [dict(zip(self.columns, row, strict=True)) for row in found]


def first_passage(chain: Chain, source: str | None = None, target: str | None = None) -> FirstPassage:
    """Find the mean first passage times within a closed class.

    Parameters
    ----------
    chain
        A chain. If its runs end, ask `hitting` for the times within a run, or this for `restart(chain)`.
    source, target
        Times from this node only, or to this node only. If neither is given: all pairs of the only closed class.

    Returns
    -------
    FirstPassage
        For each pair of nodes the expected number of steps.

    Raises
    ------
    ChainError
        For a name that is unknown.
    AnalysisError
        If the nodes are in no closed class, or not in the same; if it is not clear which class is meant; if the class
        has more than 500 nodes and neither source nor target is given; if times are too long to be numbers.

    Notes
    -----
    All pairs: see `flowstat.analyze.all_pairs`. To one target: one solve. From one source h of a larger class, by the
    commute time: `m_hj = N_jj / pi_j - m_jh`, with N_jj the visits to j from j before h (Aldous and Fill, Reversible
    Markov Chains and Random Walks on Graphs (2002), corollary 2.8): as many solves as there are nodes, of one
    factorisation; where the two cancel, the bound says so. Also Kemeny and Snell, Finite Markov Chains (1960), 4.4.

    Examples
    --------
    >>> weather = Chain.from_matrix([[0.5, 0.5], [0.25, 0.75]], ["rain", "sun"])
    >>> [(row["source"], row["target"], row["steps"]) for row in first_passage(weather).rows()]
    [('rain', 'rain', 3.0), ('rain', 'sun', 2.0), ('sun', 'rain', 4.0), ('sun', 'sun', 1.5)]
    """
    solver = Solver(chain.P, chain.stop)
    states = closed_class(chain, solver, source, target)
    names = tuple(chain.names[i] for i in states)
    place = {name: k for k, name in enumerate(names)}
    n = len(states)
    block = sparse.csr_array(chain.P[states][:, states])
    if target is not None and (source is None or n > MATRIX):
        found = _to(block, place[target], solver)
        column = Solved(found.values[:, None], found.bound[:, None])
        if source is not None:
            column, names = _part(column, [place[source]], [0]), (source,)
        return FirstPassage(names, (target,), column.values, column.bound)
    if source is not None and n > MATRIX:
        row = _from(block, place[source], solver)
        return FirstPassage((source,), names, row.values[None, :], row.bound[None, :])
    if n > MATRIX:
        raise AnalysisError(
            f"the class has {n:,} nodes, too many for all pairs: name a source or a target (--source, --target)"
        )
    M = all_passages(block, solver.unit)
    if source is not None:
        columns = [place[target]] if target is not None else list(range(n))
        row = _part(M, [place[source]], columns)
        return FirstPassage((source,), (target,) if target is not None else names, row.values, row.bound)
    constant = _constant(M, solver.stationary(states))
    return FirstPassage(names, names, M.values, M.bound, float(constant.values), float(constant.bound))


def kemeny(chain: Chain) -> Kemeny:
    """Find Kemeny's constant of every closed class; parameters and errors are those of `first_passage`.

    Notes
    -----
    Up to 500 nodes `sum pi_j m_ij` from any i (Kemeny and Snell (1960), theorem 4.4.10). Larger: with h the node
    that the class is at most often, `trace N - sum pi_j m_jh`, with N the visits of j from j before h: n solves of one
    factorisation.

    Examples
    --------
    >>> round(kemeny(Chain.from_matrix([[0.5, 0.5], [0.25, 0.75]])).constants[0], 12)
    1.333333333333
    """
    solver = Solver(chain.P, chain.stop)
    found = []
    for states in solver.closed:
        block = sparse.csr_array(chain.P[states][:, states])
        law = solver.stationary(states)
        if len(states) <= MATRIX:
            constant = _constant(all_passages(block, solver.unit), law)
        else:
            home = int(np.argmax(law.values))
            apart = _Apart(block, home, solver)
            others = Solved(law.values[apart.others], law.bound[apart.others])
            trace = total(quotient(exact(np.ones(len(apart.others))), apart.between.return_gaps()))
            constant = minus(trace, dot(others, apart.back()))
        name = class_name(tuple(chain.names[i] for i in states[: NAMED + 1]), len(states))
        found.append((name, len(states), float(constant.values), float(constant.bound)))
    return Kemeny(*(tuple(column) for column in zip(*found, strict=True))) if found else Kemeny((), (), (), ())


def _constant(M: Solved, law: Solved) -> Solved:
    """Return Kemeny's constant: the steps from the node where the class is most often to one of its law."""
    home = int(np.argmax(law.values))
    others = np.delete(np.arange(len(law.values)), home)
    return dot(Solved(law.values[others], law.bound[others]), Solved(M.values[home, others], M.bound[home, others]))


class _Apart:
    """A closed class without one of its states."""

    def __init__(self, block: sparse.csr_array, home: int, solver: Solver) -> None:
        self.others = np.delete(np.arange(block.shape[0]), home)
        rest = block[self.others]
        leaving = np.asarray(rest[:, [home]].todense()).ravel()
        self.out = np.asarray(block[[home]][:, self.others].todense()).ravel()
        self.between = Solver(sparse.csr_array(rest[:, self.others]), leaving, solver.tolerance)

    def back(self) -> Solved:
        """Return the expected steps from each other state."""
        return self.between.backward(np.ones(len(self.others)))


def _to(block: sparse.csr_array, target: int, solver: Solver) -> Solved:
    """Return the expected steps from each state to a target, (n,)."""
    if block.shape[0] == 1:
        return exact(np.ones(1))
    apart = _Apart(block, target, solver)
    back = apart.back()
    around = plus(exact(1.0), dot(exact(apart.out), back))
    return Solved(*(np.insert(x, target, y) for x, y in ((back.values, around.values), (back.bound, around.bound))))


def _from(block: sparse.csr_array, source: int, solver: Solver) -> Solved:
    """Return the expected steps from a source to each state, (n,)."""
    apart = _Apart(block, source, solver)
    visits, _ = apart.between.visits(apart.out)
    around = plus(exact(1.0), total(visits))
    commute = quotient(around, times(visits, apart.between.return_gaps()))
    onward = minus(commute, apart.back())
    onward = Solved(np.maximum(onward.values, 1.0), onward.bound)
    return Solved(*(np.insert(x, source, y) for x, y in ((onward.values, around.values), (onward.bound, around.bound))))


def _part(of: Solved, rows: list[int], columns: list[int]) -> Solved:
    some = np.ix_(rows, columns)
    return Solved(of.values[some], of.bound[some])


def closed_class(chain: Chain, solver: Solver, *nodes: str | None) -> Index:
    """Return the closed class that some nodes are in; the only one if there are none."""
    wanted = [name for name in nodes if name is not None]
    for name in wanted:
        if name not in chain.index:
            raise ChainError(f"no node is called {shown(name)!r}")
    closed = solver.closed
    if not closed:
        raise AnalysisError(
            "every run ends, and no closed class is there: restart the runs (--restarted), or ask hitting"
        )
    if not wanted:
        if len(closed) > 1:
            few = ", ".join(shown(chain.names[c[0]]) for c in closed[:5])
            raise AnalysisError(
                f"there are {len(closed):,} closed classes: name a source or a target in one of them, such as {few}"
            )
        return closed[0]
    labels = {int(solver.label[chain.index[name]]) for name in wanted}
    for name in wanted:
        if not solver.classes[int(solver.label[chain.index[name]])].closed:
            raise AnalysisError(f"{shown(name)!r} is in no closed class: ask hitting for times within a run")
    if len(labels) > 1:
        raise AnalysisError(
            f"{shown(wanted[0])!r} and {shown(wanted[1])!r} are in two closed classes: neither leads to the other"
        )
    return solver.classes[labels.pop()].states

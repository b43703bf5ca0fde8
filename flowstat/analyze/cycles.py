"""Elementary cycles: the foremost ones by probability, flux, events or time, exactly, without listing all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import exp, inf, isinf, prod

import numpy as np

from flowstat.analyze.arrow_times import Latencies, arrow_times
from flowstat.analyze.bounded import MARGIN, quotient
from flowstat.analyze.cycle_flux import Flux, Fluxes
from flowstat.analyze.cycle_list import ORDERS, Cycle, Cycles, Order
from flowstat.analyze.cycle_search import Lightest, lightest
from flowstat.analyze.derived import positions, whole
from flowstat.analyze.flux_search import most_travelled
from flowstat.analyze.solve import Solved, Solver, Vector, total
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain, Start, start_law

__all__ = ["Cycle", "Cycles", "cycles", "iter_cycles"]

FIRST = 8
"""How many cycles are looked for at once when they are asked for one by one; then `GROWTH` times as many."""

GROWTH = 4


def cycles(
    chain: Chain,
    top: int = 20,
    start: Start = None,
    max_length: int | None = None,
    *,
    by: Order = "probability",
    through: str | None = None,
    latencies: Latencies | None = None,
) -> Cycles:
    """List the foremost elementary cycles.

    Parameters
    ----------
    chain
        A chain.
    top
        How many at most; at least 1.
    start
        Start of runs for `traversals`; the chain's start law if not given.
    max_length
        Longest cycle that is listed, in nodes.
    by
        What they are listed by: `probability`, the product of their shares; `flux`, how often a run goes round them;
        `events`, their flux times their length; `time`, their flux times what their messages take. By all but
        probability those of closed classes come first, by the chance to be trapped there and flux per event in the
        long run; cycles that no run comes to are left out.
    through
        Only cycles through this node.
    latencies
        Of arrows, beside those that were recorded; for `time`.

    Returns
    -------
    Cycles
        Exact and best first; equals (to nine digits) by length, then by their names from the alphabetically first one.
        Where the search took too long to finish, it says how many of the first ones are right, and what may be missing.

    Raises
    ------
    AnalysisError
        If `top` or `max_length` is less than 1, `by` is nothing that cycles are listed by, a latency is missing, or
        (not by probability) a class is too large and too close to closed to be solved.
    ChainError
        If a node or the start is not there.

    Notes
    -----
    By probability: see `flowstat.analyze.cycle_search`, and for graphs in which too many paths lead nowhere
    `flowstat.analyze.cycle_delay`; time grows with the arrows and with the paths that are as probable as the last cycle
    listed. By flux: see `flowstat.analyze.flux_search`; time grows with the paths whose bound is above the flux of the
    last cycle listed, and with that of solving for the nodes of about as many cycles as are listed. Traversals, with
    proven bounds: see `flowstat.analyze.cycle_flux`.

    Examples
    --------
    >>> chain = Chain.from_matrix([[0.5, 0.25], [1, 0]], ["a", "b"], "a", stop=[0.25, 0])
    >>> [(c.name, c.probability, c.traversals) for c in cycles(chain).cycles]
    [('a -> a', 0.5, 2.0), ('a -> b -> a', 0.25, 1.0)]
    >>> [c.name for c in cycles(chain, through="b").cycles]
    ['a -> b -> a']
    """
    top, asked = whole("top", top, 1), _Asked(chain, start, max_length, by, through, latencies)
    found = asked.search(top)
    made, refused = asked.cycles(found.paths)
    covered = asked.covered(made)
    return Cycles(
        made,
        None if covered is None else float(covered.values),
        found.more,
        found.complete,
        chain.fans_out,
        by,
        0.0 if covered is None else float(covered.bound),
        refused,
        found.sure,
        exp(-found.level) if -inf < found.level < inf and not (by == "probability" and found.level <= 0) else None,
        found.endless,
    )


def iter_cycles(
    chain: Chain,
    start: Start = None,
    max_length: int | None = None,
    *,
    by: Order = "probability",
    through: str | None = None,
    latencies: Latencies | None = None,
    flux: bool = True,
    top: int | None = None,
) -> Iterator[Cycle]:
    """Yield elementary cycles one by one, in the order of `cycles`: the first ones come at once.

    It ends after the last cycle, or where the search would take too long to go on: `cycles` tells which, and how many
    of the first ones are right then.

    Parameters
    ----------
    chain, start, max_length, by, through, latencies
        As for `cycles`.
    flux
        Whether to work out the traversals; without them only the graph is looked at, by probability.
    top
        How many at most, if that is known: then it searches once. All of them, if not given.

    Raises
    ------
    AnalysisError, ChainError
        As `cycles`.

    Notes
    -----
    It searches for 8 cycles, then for 4 times as many, and so on: in all, little more than to search once for those
    that are taken.

    Examples
    --------
    >>> chain = Chain.from_matrix([[0.5, 0.25], [1, 0]], ["a", "b"], "a", stop=[0.25, 0])
    >>> next(iter_cycles(chain)).name
    'a -> a'
    """
    asked = _Asked(chain, start, max_length, by, through, latencies)
    return asked.one_by_one(flux, None if top is None else whole("top", top, 1))


class _Asked:
    """What is asked for, and what it takes to answer."""

    def __init__(
        self,
        chain: Chain,
        start: Start,
        max_length: int | None,
        by: str,
        through: str | None,
        latencies: Latencies | None,
    ) -> None:
        if by not in ORDERS:
            raise AnalysisError(f"cycles are listed by {', '.join(ORDERS)}, not by {by!r}")
        self.chain, self.by = chain, by
        self.law = start_law(chain, start)
        self.max_length = None if max_length is None else whole("max_length", max_length, 1)
        self.through = None if through is None else int(positions(chain, through)[0])
        self.rows, self.columns, self.shares = chain.arrows()
        self.latencies = latencies
        self.times: Vector = np.zeros(0)
        self.solved: tuple[Fluxes, Solved] | None = None

    def fluxes(self) -> tuple[Fluxes, Solved]:
        """Return what finds fluxes, and the visits of nodes."""
        if self.solved is None:
            solver = Solver(self.chain.P, self.chain.stop)
            visited, entered = solver.visits(self.law)
            self.solved = Fluxes(solver, entered), visited
        return self.solved

    def search(self, top: int) -> Lightest:
        """Return the foremost cycles."""
        names = self.chain.names
        if self.by == "probability":
            weights = np.maximum(-np.log(self.shares), 0.0)
            return lightest(names, (self.rows, self.columns, weights), top, self.max_length, self.through)
        fluxes, visited = self.fluxes()
        if self.by == "events":
            self.times = np.ones(len(self.rows))
        elif self.by == "time" and not len(self.times):
            label = fluxes.solver.label
            reached = visited.values[self.rows] > 0
            needed = (label[self.rows] == label[self.columns]) & reached
            self.times = arrow_times(self.chain, self.latencies, needed).mean
        return most_travelled(names, fluxes, visited, self.times, top, self.max_length, self.through)

    def cycles(self, paths: Sequence[tuple[int, ...]], flux: bool = True) -> tuple[tuple[Cycle, ...], str]:
        """Return cycles with what is to be known of them, and why some of that is not there."""
        measured: list[Flux | None] = [None] * len(paths)
        refused = ""
        if flux and paths:
            fluxes, _ = self.fluxes()
            try:
                measured = list(fluxes.of(paths))
            except AnalysisError:
                label = fluxes.solver.label
                by_class: dict[int, list[int]] = {}
                for k, path in enumerate(paths):
                    by_class.setdefault(int(label[path[0]]), []).append(k)
                for some in by_class.values():
                    try:
                        for k, each in zip(some, fluxes.of([paths[k] for k in some]), strict=True):
                            measured[k] = each
                    except AnalysisError as error:
                        refused = str(error)
        return tuple(self.made(paths, measured)), refused

    def made(self, paths: Sequence[tuple[int, ...]], measured: list[Flux | None]) -> Iterator[Cycle]:
        chain, n = self.chain, len(self.chain.names)
        sources = np.fromiter((i for path in paths for i in path), np.int64)
        targets = np.fromiter((i for path in paths for i in (*path[1:], path[0])), np.int64)
        at = np.searchsorted(self.rows * n + self.columns, sources * n + targets)
        shares, begin = self.shares[at].tolist(), 0
        for path, flux in zip(paths, measured, strict=True):
            end = begin + len(path)
            # Sorted, so that rounding does not depend on the chain's order.
            p = prod(sorted(shares[begin:end]))
            names = tuple([chain.names[i] for i in path])
            keys = ("",) * len(path)
            if chain.graph is not None:
                keys = tuple("|".join(chain.keys(i, j)) for i, j in zip(names, (*names[1:], names[0]), strict=True))
            if flux is None:
                yield Cycle(names, keys, p, None)
            else:
                taken = float(self.times[at[begin:end]].sum()) if self.by == "time" else None
                time = None if taken is None else flux.traversals * taken
                yield Cycle(names, keys, p, flux.traversals, flux.error_bound, flux.rate, flux.rate_bound, time)
            begin = end

    def covered(self, made: Sequence[Cycle]) -> Solved | None:
        """Return the share of all events on cycles; None where runs may never end."""
        _, visited = self.fluxes()
        if isinf(float(visited.values.sum())) or any(c.traversals is None for c in made):
            return None
        on = np.array([(c.traversals or 0.0) * len(c.nodes) for c in made])
        off = np.array([c.error_bound * len(c.nodes) for c in made])
        share = quotient(total(Solved(on, MARGIN * off)), total(visited))
        return Solved(np.minimum(share.values, 1.0), share.bound)

    def one_by_one(self, flux: bool, last: int | None) -> Iterator[Cycle]:
        """Search for more and more."""
        top, given = last or FIRST, set[tuple[int, ...]]()
        while True:
            found = self.search(top)
            # A search that could not finish may have others before those that are given.
            fresh = [path for path in found.paths if path not in given]
            yield from self.cycles(fresh, flux)[0]
            given.update(fresh)
            if last is not None or not found.more or not found.complete:
                return
            top *= GROWTH

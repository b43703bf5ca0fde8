"""Slow groups: sets of nodes in which a chain stays for long before it goes to another."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import ClassVar, Literal

import numpy as np
from scipy import sparse

from flowstat.analyze.eigen import Complex, leading, subspace
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.membership import basis, memberships
from flowstat.analyze.near_one import moves
from flowstat.analyze.perron import Part, part_of
from flowstat.analyze.solve import Index, Solver, Vector
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain, Start, start_law
from flowstat.results import LINEAGES, Result, Row, number

__all__ = ["Metastable", "SlowGroup", "metastable"]

MOST = 10
"""How many groups are tried where their number is not given."""

RESTARTED = 20_000_000
"""How many arrows from ends to starts a restarted chain may have."""

DEPENDENT = 1e-8
"""Eigenvectors that are this near to dependent do not span the space that is needed."""


@dataclass(frozen=True)
class SlowGroup:
    """Nodes that belong to one group more than to any other.

    `weight` is the share of all events there, `stays` the chance that the next event is there again, and `events` how
    many in a row there are, on average; how far they may be off, proven, is in `weight_bound`, `stays_bound` and
    `events_bound`. `crisp` is the mean membership of its nodes, by their share of events: 1 if they belong nowhere
    else.
    """

    nodes: tuple[str, ...]
    weight: float
    stays: float
    events: float
    crisp: float
    weight_bound: float
    stays_bound: float
    events_bound: float


@dataclass(frozen=True)
class Metastable(Result):
    """The slow groups of a chain, the heaviest first.

    `memberships[i, g]` says how much node `nodes[i]` belongs to group g: at least 0, sums to 1 over the groups.
    `between[g, h]` is the chance that the next event is in h, given one in g, by membership; its rows sum to 1, and
    entries may be below 0 where groups are vague. `eigenvalues` are those of `between` (real and imaginary parts),
    which are the chain's leading ones up to `residual`; `crispness` is 1 if each node is in one group, and lower the
    more are between. Of a large chain, those that don't stand out from each other are below a modulus of about `crowd`,
    an estimate; `nearest` tells whether only those near 1 were looked at. All these come from eigenvectors and have no
    bounds; what is said of the groups has.
    """

    title: ClassVar[str] = "Slow groups: where the chain stays for long"
    columns: ClassVar[tuple[str, ...]] = (
        "group",
        "nodes",
        "size",
        "weight",
        "stays",
        "events",
        "crisp",
        "weight_bound",
        "stays_bound",
        "events_bound",
    )
    beside: ClassVar[tuple[str, ...]] = ("weight_bound", "stays_bound", "events_bound")
    groups: tuple[SlowGroup, ...]
    nodes: tuple[str, ...]
    memberships: Vector = field(compare=False)
    between: Vector = field(compare=False)
    eigenvalues: tuple[tuple[float, float], ...]
    crispness: float
    residual: float
    method: Literal["PCCA+", "GPCCA"]
    restarted: bool
    chosen: bool
    next_eigenvalue: float | None
    crowd: float | None = None
    nearest: bool = False
    fans_out: bool = False

    def rows(self) -> list[Row]:
        """Return one row a group."""
        return [
            {"group": k + 1, "nodes": list(g.nodes), "size": len(g.nodes)}
            | {column: getattr(g, column) for column in self.columns[3:]}
            for k, g in enumerate(self.groups)
        ]

    @property
    def error_bound(self) -> float:
        """How far any group's share of events may be off, proven: see `flowstat.analyze.solve`."""
        return max(g.weight_bound for g in self.groups)

    def notes(self) -> tuple[str, ...]:
        """Say of which chain, how many groups there are, and how clear they are."""
        notes = []
        if self.restarted:
            notes.append("Every run ends: this is the chain in which each end starts a new run.")
        if len(self.groups) == 1:
            why = ": the largest gap between eigenvalues is after the first" if self.chosen else ""
            notes.append(f"One group{why}.")
            if self.chosen and self.next_eigenvalue is not None:
                notes.append("No part is much slower than the others. Say how many groups there are to see them still.")
            elif self.chosen and self.crowd is not None:
                notes.append("No part is slower than the others: no eigenvalue but the first stands out.")
        else:
            then = self.next_eigenvalue
            apart = "" if then is None else f"; the next eigenvalue is {number(then)}"
            slow = number(min(real for real, _ in self.eigenvalues))
            why = "by the largest gap between eigenvalues: " if self.chosen else ""
            notes.append(f"{len(self.groups)} groups ({why}down to {slow}{apart}), by {self.method}.")
            notes.append(f"Crispness {number(self.crispness)}: 1 would be groups without anything in between.")
            if self.between.min() < -1e-9:
                notes.append("Groups are vague: some chances between them are below 0, and mean no more than that.")
        if self.nearest:
            notes.append("Eigenvalues near 1 were looked at: pairs that turn faster than they are slow may be missing.")
        if self.crowd is not None:
            notes.append(f"The other eigenvalues crowd below a modulus of about {number(self.crowd)} (an estimate).")
        return (*notes, LINEAGES) if self.fans_out else tuple(notes)


def metastable(chain: Chain, groups: int | None = None, start: Start = None) -> Metastable:
    """Find the groups of nodes between which a chain is slow to change.

    Parameters
    ----------
    chain
        A chain. Of runs that never end, its closed class is looked at; of runs that all end, the chain in which each
        end starts a new run.
    groups
        How many; by the largest gap between eigenvalues if not given, 1 to 10.
    start
        A node or a law over nodes; the chain's start law if not given.

    Returns
    -------
    Metastable
        Groups with their share of events and how long the chain stays, memberships, and the chances between groups.

    Raises
    ------
    ChainError
        If the start is no law over the nodes.
    AnalysisError
        If runs come to several closed classes, or may end or not, so that there is not one long run; if there are not
        so many groups, or not so many eigenvalues that stand out, or their number would cut a pair of complex ones in
        two (it says which would not).

    Notes
    -----
    Leading are the eigenvalues of largest real part; see `flowstat.analyze.membership`. With memberships chi,
    `between = (chi' D chi)^-1 chi' D P chi` with D the law has the eigenvalues of the space that chi spans: PCCA+'s
    coarse matrix, worked out from differences along arrows. Cost: that of the eigenvectors, see
    `flowstat.analyze.eigen`, and of the memberships.

    Examples
    --------
    >>> P = [[.5, .49, .01, 0], [.49, .5, 0, .01], [.01, 0, .5, .49], [0, .01, .49, .5]]
    >>> found = metastable(Chain.from_matrix(P, ["a", "b", "x", "y"]))
    >>> [g.nodes for g in found.groups], round(found.groups[0].stays, 12)
    ([('a', 'b'), ('x', 'y')], 0.99)
    """
    part, restarted = _long_run(chain, start_law(chain, start))
    n = len(part.states)
    if groups is not None and not 1 <= groups <= n:
        raise AnalysisError(f"there are 1 to {n} groups of {n} nodes, not {groups}")
    most = min(n, (groups or MOST) + 1)
    found = leading(part, most, "real") if n > 1 and groups != 1 else None
    values = np.concatenate([np.ones(1, complex), found.values if found else np.zeros(0, complex)])
    known = found is None or len(found.apart) == found.others
    if groups is not None and groups > len(values):
        why = "are not 0: there are" if known else "stand out from the others, or are told from rounding: ask for"
        raise AnalysisError(f"only {len(values)} of the eigenvalues {why} no more groups than that, not {groups}")
    crowd = found.below if found else None
    if groups is None and not known and (crowd is None or crowd >= 1) and (crowd is not None or len(values) == 1):
        raise AnalysisError("the eigenvalues are too close together near 1 to be told apart: say how many groups")
    k = groups or _largest_gap(np.append(values, [] if crowd is None else [complex(crowd)])[: MOST + 1], known)
    _whole_pairs(values, k)
    pi = part.left / part.left.sum()
    if found is None or k == 1:
        X, least = np.ones((n, 1)), 1.0
    else:
        X, least = basis(subspace(part, found, k - 1), pi)
    if least < DEPENDENT:
        raise AnalysisError(f"the eigenvectors of {k} groups are nearly dependent: ask for another number of groups")
    chi, crispness = memberships(X)
    between = _between(part, pi, chi)
    best = np.argmax(chi, axis=1)
    described = [_group(chain, part, pi, chi, best, g) for g in range(k)]
    order = sorted(range(k), key=lambda g: (-described[g].weight, described[g].nodes))
    between = between[np.ix_(order, order)]
    coarse = np.linalg.eigvals(between)
    coarse = coarse[np.lexsort((coarse.imag, -coarse.real))]
    wanted = values[:k][np.lexsort((values[:k].imag, -values[:k].real))]
    return Metastable(
        tuple(described[g] for g in order),
        tuple(chain.names[i] for i in part.states),
        chi[:, order],
        between,
        tuple((float(v.real), float(v.imag)) for v in coarse),
        crispness,
        float(np.abs(coarse - wanted).max()),
        "PCCA+" if found is None or found.reversible else "GPCCA",
        restarted,
        groups is None,
        float(values[k].real) if k < len(values) else None,
        crowd,
        found is not None and found.nearest,
        chain.fans_out,
    )


def _long_run(chain: Chain, law: Vector) -> tuple[Part, bool]:
    """Return the class in which the chain is in the long run, and whether it is that of the restarted chain."""
    solver = Solver(chain.P, chain.stop)
    _, entered = solver.visits(law)
    trapped = [c for c, p in enumerate(solver.classes) if p.closed and entered.values[p.states].any()]
    visited = solver.visits(law)[0].values
    ends = bool(((visited > 0) & (chain.stop > 0)).any())
    if len(trapped) == 1 and not ends:
        return part_of(solver, trapped[0]), False
    if trapped:
        raise AnalysisError(
            f"runs come to {len(trapped)} closed classes{' or end' * ends}: these are groups that are never left. "
            "Start in one of them to see its own groups"
        )
    stopping, starting = np.flatnonzero(chain.stop), np.flatnonzero(law)
    if len(stopping) * len(starting) > RESTARTED:
        raise AnalysisError("too many ends and starts to lead each end to each start: name one start")
    again = sparse.csr_array(chain.stop[:, None]) @ sparse.csr_array(law[None, :])
    solver = Solver(sparse.csr_array(chain.P + again), np.zeros(len(law)))
    home = int(solver.label[starting[0]])
    return part_of(solver, home), True


def _largest_gap(values: Complex, known: bool) -> int:
    """Return after how many eigenvalues of positive real part the gap is largest; pairs of conjugates are not cut."""
    # After all that are known there are zeros.
    reals = np.append(values.real, [0.0] * (known and len(values) <= MOST))
    falls = reals[:-1] - np.maximum(reals[1:], 0.0)
    falls[np.cumsum(values.imag)[: len(falls)] > 0] = -1.0
    falls[reals[:-1] <= 0] = -1.0
    return 1 + int(np.argmax(falls[:MOST])) if len(falls) else 1


def _whole_pairs(values: Complex, k: int) -> None:
    """Raise AnalysisError if k values cut a pair of conjugates."""
    if abs(values[:k].imag.sum()) > 0:
        possible = " or ".join(str(m) for m in (k - 1, k + 1) if 1 <= m <= len(values))
        raise AnalysisError(f"{k} groups would cut a pair of complex eigenvalues in two: ask for {possible}")


def _between(part: Part, pi: Vector, chi: Vector) -> Vector:
    """Return the chances between groups, their rows summing to 1."""
    inner = (pi[:, None] * chi).T
    leave = np.linalg.solve(inner @ chi, inner @ moves(part, chi.astype(complex)).real)
    between = -leave
    np.fill_diagonal(between, 0.0)
    np.fill_diagonal(between, 1 - between.sum(axis=1))
    return np.asarray(between)


def _group(chain: Chain, part: Part, pi: Vector, chi: Vector, best: Index, g: int) -> SlowGroup:
    """Describe a group by the flow out of it: what leaves is summed up, not taken from 1."""
    inside = best == g
    off = part.off.tocoo()
    out = inside[off.row] & ~inside[off.col]
    weight, flow = float(pi[inside].sum()), float(pi[off.row[out]] @ off.data[out])
    leaves = min(flow / weight, 1.0) if weight else 1.0
    # All entries of the law are right to that, relatively, and so are sums of them. Rounding of the arrows from ends to
    # starts changes no entry by more than 2 n units of it each (O'Cinneide, Numerische Mathematik 65 (1993)).
    doubt = 1.01 * (part.left_doubt + (9 * len(pi) + off.nnz + 8) * UNIT)
    twice = 2 * doubt / (1 - doubt) if doubt < 1 else inf
    events = 1 / leaves if leaves > 0 else inf
    return SlowGroup(
        tuple(chain.names[i] for i in part.states[inside]),
        weight,
        1 - leaves,
        events,
        float(pi[inside] @ chi[inside, g]) / weight if weight else 0.0,
        doubt * weight,
        twice * leaves + UNIT,
        twice * events if leaves > 0 else 0.0,
    )

"""Variants: the walks that whole runs are, loops and all, most probable first, beside those that traces have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from math import sqrt
from sys import maxsize
from typing import ClassVar

from flowstat.analyze.derived import whole
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.law import TINY
from flowstat.analyze.walks import Walk, walks
from flowstat.estimate.chain import Chain, Start, start_law
from flowstat.estimate.observed import ObservedVariants, observed_variants
from flowstat.estimate.remembering import Remembering
from flowstat.read.traces import Traces
from flowstat.results import LINEAGES, Result, Row, counted, number

__all__ = ["Variant", "Variants", "variants"]


@dataclass(frozen=True)
class Variant:
    """One exact walk of whole runs.

    Attributes
    ----------
    nodes
        Its events, first to last; the run stops at the last.
    probability
        Of a run to be exactly this walk, by the chain.
    error_bound
        How far the probability may be off by rounding, for the chain as it is stored.
    observed
        In how many of the recorded runs it is; of lineages, parts of runs. None without traces.
    share
        `observed` divided by all complete runs that were recorded; None without any.
    deviation
        By how many standard errors the share is off from the probability, were the chain right and known without
        traces; None where there is nothing to compare.
    """

    nodes: tuple[str, ...]
    probability: float
    error_bound: float
    observed: float | None = None
    share: float | None = None
    deviation: float | None = None

    @property
    def name(self) -> str:
        """The walk as one reads it."""
        return " -> ".join(self.nodes)


@dataclass(frozen=True)
class Variants(Result):
    """The most probable walks of whole runs, best first.

    Attributes
    ----------
    variants
        The walks.
    covered
        The share of all runs that are one of these walks, by the chain.
    covered_observed
        The share of the recorded complete runs that are; None without any.
    more
        Whether there are more walks than these.
    runs
        How many complete runs were recorded (of lineages, their weights are added up); None without traces.
    unfinished
        How many runs were recorded whose end was not; they are compared with nothing.
    """

    title: ClassVar[str] = "Variants: whole runs, most probable first"
    columns: ClassVar[tuple[str, ...]] = (
        "variant",
        "length",
        "probability",
        "covered",
        "observed",
        "share",
        "deviation",
        "error_bound",
    )
    beside: ClassVar[tuple[str, ...]] = ("error_bound",)
    variants: tuple[Variant, ...]
    covered: float
    covered_observed: float | None
    more: bool
    runs: float | None = None
    unfinished: float = 0.0
    fans_out: bool = False

    @property
    def error_bound(self) -> float:
        """How far any of the probabilities may be off by rounding."""
        return max((v.error_bound for v in self.variants), default=0.0)

    def rows(self) -> list[Row]:
        """Return one row a walk; `covered` adds up the probabilities so far."""
        rows: list[Row] = []
        covered = 0.0
        for v in self.variants:
            covered += v.probability
            rows.append(
                {
                    "variant": v.name,
                    "length": len(v.nodes),
                    "probability": v.probability,
                    "covered": min(covered, 1.0),
                    "observed": v.observed,
                    "share": v.share,
                    "deviation": v.deviation,
                    "error_bound": v.error_bound,
                }
            )
        return rows

    def printed(self) -> tuple[str, ...]:
        """Return the columns that a printed table has: nothing observed without traces."""
        left_out = ("observed", "share", "deviation") if self.runs is None else ()
        return tuple(c for c in super().printed() if c not in left_out)

    def notes(self) -> tuple[str, ...]:
        """Say how many runs are covered, and what the traces have of them."""
        runs = "lineages" if self.fans_out else "runs"
        notes = [f"{number(100 * self.covered)}% of all {runs} are exactly one of these, by the chain."]
        if self.runs is not None:
            if self.covered_observed is None:
                notes.append("The traces have no complete run to compare with.")
            else:
                of = f"{number(self.runs)} complete {runs} that were recorded"
                notes.append(f"So are {number(100 * self.covered_observed)}% of the {of}.")
            if self.unfinished:
                notes.append(f"{number(self.unfinished)} {runs} were recorded without their end and are left out.")
        if not self.more:
            notes.append(f"There are no more: {counted(len(self.variants), 'walk')} in all.")
        if self.fans_out:
            notes.append(LINEAGES)
        return tuple(notes)


def variants(
    chain: Chain,
    top: int = 10,
    start: Start = None,
    observed: Traces | ObservedVariants | None = None,
) -> Variants:
    """List the most probable walks of whole runs, exactly.

    Parameters
    ----------
    chain
        A chain.
    top
        How many at most; at least 1.
    start
        A node or a law over nodes; the chain's start law if not given.
    observed
        Traces, or what `observed_variants` found in them: how often each walk really was.

    Returns
    -------
    Variants
        Exact, best first; equal ones (to twelve digits) by length, then names. So are walks that are less probable
        than the least floating-point number: their probability is given as 0, and is off by no more than its bound.

    Raises
    ------
    AnalysisError
        If `top` is no whole number of at least 1.
    ChainError
        If the start is no law over the nodes.
    TraceError
        If traces can't be read.

    Notes
    -----
    A run is the walk w with probability `alpha(w_0) prod p(w_k, w_k+1) stop(w_last)`; unlike a flow it is not the sum
    over what loops may do between. Runs that never end are no walk. See `walks` for the search: O(arrows log n), then
    O(length log top) for each walk; 1,000 of a million nodes are no problem. With fan-out, a walk is that of one
    lineage, and a recorded run counts for each of its lineages with the chance to pick it.

    Examples
    --------
    >>> retry = Chain.from_matrix([[0.5, 0.5], [0, 0]], ["pay", "ship"], "pay", stop=[0, 1])
    >>> [(v.name, v.probability) for v in variants(retry, 2).variants]
    [('pay -> ship', 0.5), ('pay -> pay -> ship', 0.25)]
    """
    top = whole("top", top, 1)
    law = start_law(chain, start)
    found = list(islice(walks(chain, law), min(top, maxsize - 1) + 1))
    more = len(found) > top
    seen = observed_variants(observed) if isinstance(observed, Traces) else observed
    if seen is not None and isinstance(chain, Remembering):
        seen = replace(seen, table={chain.walk(nodes): n for nodes, n in seen.table.items()})
    described = [(walk.rank, _described(chain, walk, seen)) for walk in found[:top]]
    listed = [v for _, v in sorted(described, key=lambda each: (each[0], len(each[1].nodes), each[1].nodes))]
    counted_runs = seen is not None and seen.runs > 0
    return Variants(
        variants=tuple(listed),
        covered=min(1.0, sum(v.probability for v in listed)),
        covered_observed=min(1.0, _sum(v.share for v in listed)) if counted_runs else None,
        more=more,
        runs=None if seen is None else seen.runs,
        unfinished=0.0 if seen is None else seen.unfinished,
        fans_out=chain.fans_out,
    )


def _described(chain: Chain, walk: Walk, seen: ObservedVariants | None) -> Variant:
    nodes = tuple(map(chain.names.__getitem__, walk.nodes))
    p = min(walk.probability, 1.0)
    bound = 1.01 * (len(nodes) + 1) * UNIT * p + TINY
    if seen is None:
        return Variant(nodes, p, bound)
    times = seen.table.get(nodes, 0.0)
    if not seen.runs:
        return Variant(nodes, p, bound, times)
    share = times / seen.runs
    # With fan-out the lineages of a run are not drawn one by one: no standard error is known.
    spread = 0.0 if seen.fans_out else sqrt(p * (1 - p) / seen.runs)
    return Variant(nodes, p, bound, times, share, (share - p) / spread if spread > 0 else None)


def _sum(shares: Iterable[float | None]) -> float:
    return sum(share for share in shares if share is not None)

"""The shares themselves, arrow by arrow, with their credible intervals: the chain as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flowstat.analyze.interval import beta
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import END, Chain
from flowstat.read.patterns import parse_pattern
from flowstat.results import Result, Row

__all__ = ["Share", "Shares", "shares"]


@dataclass(frozen=True)
class Share:
    """Where events at `source` lead: to `target`, or to `(end)`.

    `low` and `high` bound the share at the stated credibility; None where no trace stands behind it.
    `messages` is the number sent along the pair (for the end: events that sent nothing); None without traces.
    """

    source: str
    key: tuple[str, ...]
    target: str
    share: float
    low: float | None
    high: float | None
    messages: int | None
    declared: bool


@dataclass(frozen=True)
class Shares(Result):
    """All shares of a chain, by source and target in its order, the end last."""

    title: ClassVar[str] = "Shares: where an event leads"
    columns: ClassVar[tuple[str, ...]] = ("source", "key", "target", "share", "low", "high", "messages", "declared")
    shares: tuple[Share, ...]
    level: float
    estimated: bool

    def rows(self) -> list[Row]:
        """Return one row an arrow."""
        return [{c: list(s.key) if c == "key" else getattr(s, c) for c in self.columns} for s in self.shares]

    def notes(self) -> tuple[str, ...]:
        """Say where the shares come from."""
        if not self.estimated:
            return ("No traces: shares are the designer's @ shares, even where none is given.",)
        undeclared = sum(not s.declared for s in self.shares)
        note = f"low and high bound a share with {self.level:.0%} probability."
        return (note, f"{undeclared} pairs are not in the graph.") if undeclared else (note,)


def shares(chain: Chain, level: float = 0.95) -> Shares:
    """Return every share of a chain with its credible interval.

    Parameters
    ----------
    chain
        A chain.
    level
        Probability that the interval holds the share, in (0, 1).

    Notes
    -----
    A share is the posterior mean of `sum_s p(s) f_s` with `f_s = m_j(s) / |s|` and p Dirichlet of total weight A;
    its variance is `(sum_s E p(s) f_s^2 - share^2) / (A + 1)`. The interval is that of the beta law with this mean and
    variance, which without fan-out is the exact marginal. Source: Gelman et al., Bayesian Data Analysis
    (3rd ed.), section 3.4. Raises AnalysisError for a level outside (0, 1).

    Examples
    --------
    >>> shares(Chain.from_matrix([[0.5, 0.5], [0, 1]], ["try", "done"])).rows()[1]["target"]
    'done'
    """
    if not 0 < level < 1:
        raise AnalysisError(f"a level is between 0 and 1, not {level}")
    counts, graph = chain.counts, chain.graph
    events = dict(counts.events) if counts is not None else {}
    moments: dict[tuple[str, str], tuple[float, float]] = {}
    for (node, sent), n in counts.table.items() if counts is not None else ():
        targets = parse_pattern(sent)
        size = sum(times for _, times in targets)
        for target, times in targets or ((END, 1),):
            f = times / max(size, 1)
            first, second = moments.get((node, target), (0.0, 0.0))
            moments[node, target] = (first + n * f, second + n * f * f)
    rows, columns, values = chain.arrows()
    pairs = [(chain.names[i], chain.names[j], float(p)) for i, j, p in zip(rows, columns, values, strict=True)]
    pairs += [(name, END, float(p)) for name, p in zip(chain.names, chain.stop, strict=True) if p > 0]
    pairs.sort(key=lambda pair: (chain.index[pair[0]], chain.index.get(pair[1], len(chain.names))))
    known = set(graph.nodes) if graph is not None else set()
    found = []
    for source, target, share in pairs:
        low = high = messages = None
        if counts is not None and events:
            n = events.get(source, 0)
            weight = n + (chain.prior if source in known else 0.0)
            messages = counts.stops.get(source, 0) if target == END else counts.messages.get((source, target), 0)
            if n and weight:
                # The prior's patterns send one message, for which f^2 = f.
                first, second = moments.get((source, target), (0.0, 0.0))
                square = (second + max(0.0, share * weight - first)) / weight
                low, high = beta(share, (square - share * share) / (weight + 1), level)
        key = () if target == END else chain.keys(source, target)
        declared = target == END or graph is None or bool(key)
        found.append(Share(source, key, target, share, low, high, messages, declared))
    return Shares(tuple(found), level, bool(events))

"""The graph that traces show, ready to be edited."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, log10

from flowstat.estimate.counts import Counts
from flowstat.read.files import format_graph
from flowstat.read.graph import Arrow, Graph
from flowstat.read.patterns import parse_pattern
from flowstat.read.topics import ANY_KEY
from flowstat.read.words import shown
from flowstat.results import counted

__all__ = ["discover", "format_discovered"]

DIGITS = 4
"""Decimals of a share, or more where a smaller one would vanish."""


def discover(counts: Counts, min_share: float = 0.0, min_count: int = 1) -> Graph:
    """Return the graph of the messages that were sent, each arrow with the share of its source's lineages.

    Parameters
    ----------
    counts
        From `count`.
    min_share
        Leave out arrows whose share is below this, in [0, 1].
    min_count
        Leave out arrows that fewer messages went along.

    Returns
    -------
    The graph: its nodes are all that handled or were sent a message, in the order of their events, most first; shares
    are rounded to four decimals (more where one would vanish) so that a node's shares and its stop still add up
    to 1. What is left out of a node's arrows is left to its stop.

    Notes
    -----
    Share of i -> j: `sum over patterns s of p(s) m_j(s) / |s|`, as in `Counts.pairs`. Traces do not say which
    keys an arrow takes: all arrows take any.

    Examples
    --------
    >>> from flowstat.read.files import format_graph
    >>> print(format_graph(discover(Counts({("a", "b"): 3, ("a", ""): 1, ("b", ""): 3}))))
    a -> b @0.75;
    <BLANKLINE>
    """
    shares: dict[str, dict[str, Fraction]] = {}
    for (node, sent), n in counts.table.items():
        law = shares.setdefault(node, {})
        targets = parse_pattern(sent)
        size = sum(times for _, times in targets)
        for target, times in targets:
            law[target] = law.get(target, Fraction(0)) + Fraction(n * times, size * counts.events[node])
    order = sorted(counts.nodes, key=lambda node: (-counts.events.get(node, 0), node))
    arrows = []
    for node in order:
        law = shares.get(node, {})
        rounded = _rounded(law)
        for target in sorted(law, key=lambda target: (-law[target], target)):
            if law[target] >= min_share and counts.messages[node, target] >= min_count:
                arrows.append(Arrow(node, ANY_KEY, target, rounded[target]))
    return Graph.of(arrows, order)


def _rounded(law: dict[str, Fraction]) -> dict[str, float]:
    """Round shares to decimals by largest remainders: with the stop they add up to 1, and none becomes 0."""
    stop = 1 - sum(law.values())
    parts = [*law.values(), stop]
    least = min((part for part in parts if part), default=Fraction(1))
    digits = max(DIGITS, ceil(-log10(least)) + 1)
    unit = 10**digits
    floors = [part * unit // 1 for part in parts]
    left = unit - sum(floors)
    by_remainder = sorted(range(len(parts)), key=lambda k: (floors[k] - parts[k] * unit, k))
    for k in by_remainder[: int(left)]:
        floors[k] += 1
    return {target: int(n) / unit for target, n in zip(law, floors, strict=False)}


def format_discovered(graph: Graph, counts: Counts, min_share: float = 0.0, min_count: int = 1) -> str:
    """Return a discovered graph as native text, under comments that say what it was made of.

    Parameters
    ----------
    graph
        From `discover`, with the same counts and limits.
    """
    events = sum(counts.events.values())
    said = [f"discovered from {counted(counts.runs, 'run')}, {counted(events, 'event')}"]
    starts = sorted(counts.starts.items(), key=lambda item: (-item[1], item[0]))
    if starts:
        named = ", ".join(f"{shown(node)} {n:,}" for node, n in starts[:5])
        said.append(f"runs start at: {named}" + (f" and {len(starts) - 5} more" if len(starts) > 5 else ""))
    shown_pairs = {(arrow.source, arrow.target) for arrow in graph.arrows}
    left = len(counts.messages.keys() - shown_pairs)
    if left:
        said.append(f"{counted(left, 'arrow')} left out: share below {min_share:g} or messages below {min_count}")
    return "".join(f"// {' '.join(line.split())}\n" for line in said) + format_graph(graph)

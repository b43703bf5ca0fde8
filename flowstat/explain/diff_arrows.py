"""The shares of all arrows on both sides of a comparison, with intervals of their differences, and tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from flowstat.analyze.shares import shares as shares_of
from flowstat.estimate.chain import END
from flowstat.explain.diff_laws import adjusted, same_law
from flowstat.explain.diff_results import ArrowChange, Seen
from flowstat.explain.diff_sides import START, Side, Table, apart, limits
from flowstat.read.patterns import parse_pattern

__all__ = ["arrows_of"]


def arrows_of(
    sides: tuple[Side, Side], table: Table, tests: int, found: set[str], rate: float, level: float
) -> list[ArrowChange]:
    """Return all arrows that were seen; those of nodes that were `found`, of so many `tests`, are tested as well."""
    known = [_shares(side, table, which, level) for which, side in enumerate(sides)]
    arrows = []
    for node, patterns in table.items():
        sent = [_sent(node, side) for side in patterns]
        targets = sorted({*sent[0], *sent[1]})
        p: dict[str, float] = {}
        whole = [sum(side.values()) for side in patterns]
        if node in found:
            for target in targets:
                some = [of.get(target, (0, 0))[0] for of in sent]
                test = same_law((some[0], whole[0] - some[0]), (some[1], whole[1] - some[1]), f"{node} {target}")
                if test is not None:
                    p[target] = test.p
        q = dict(zip(p, adjusted(list(p.values())), strict=True))
        # The rate within a node is the smaller the fewer nodes were found.
        times = tests / max(len(found), 1)
        for target in targets:
            messages = [of.get(target, (0, 0))[1] for of in sent]
            old, new = (each.get((node, target)) for each in known)
            difference = low = high = None
            if old is not None and new is not None:
                difference = new[0] - old[0]
                low, high = apart(old[0], old[1:], new[0], new[1:])
            q_value = min(1.0, q[target] * times) if target in q else None
            chain = sides[1].chain
            declared = node == START or target == END or chain.graph is None or bool(chain.keys(node, target))
            seen: Seen = "both" if all(messages) else "new" if messages[1] else "gone"
            arrows.append(
                ArrowChange(
                    node,
                    chain.keys(node, target),
                    target,
                    seen,
                    q_value is not None and q_value <= rate,
                    old and old[0],
                    new and new[0],
                    difference,
                    low,
                    high,
                    messages[0],
                    messages[1],
                    declared,
                    p.get(target),
                    q_value,
                )
            )
    return arrows


def _sent(node: str, patterns: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Return for each target how many events sent there, and how many messages."""
    events: Counter[str] = Counter()
    messages: Counter[str] = Counter()
    for sent, n in patterns.items():
        for target, times in ((sent, 1),) if node == START else parse_pattern(sent) or ((END, 1),):
            events[target] += n
            messages[target] += n * times
    return {target: (events[target], messages[target]) for target in events}


def _shares(side: Side, table: Table, which: int, level: float) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Return the shares of a side with their intervals: of nodes with events there."""
    found = {}
    for share in shares_of(side.chain, level).shares:
        if share.low is not None and share.high is not None:
            found[share.source, share.target] = share.share, share.low, share.high
    starts = table.get(START, ({}, {}))[which]
    runs = sum(starts.values())
    for node, n in starts.items():
        p = n / runs
        found[START, node] = p, *limits(p, p * (1 - p) / (runs + 1), level, chance=True)
    # What was not seen has a share of 0 where its node was, but for the prior.
    for node, patterns in table.items():
        if patterns[which]:
            for other in patterns:
                for target in _sent(node, other):
                    found.setdefault((node, target), (0.0, 0.0, _above(sum(patterns[which].values()), level)))
    return found


def _above(n: int, level: float) -> float:
    """Return the most that a share may be of which nothing was seen among n events, evenly likely before."""
    return float(-np.expm1(np.log1p(-level) / (n + 1)))

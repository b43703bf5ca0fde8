"""What changed between two sets of traces: tests of every node, sizes of the changes, and what they do to answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Start
from flowstat.estimate.counts import Counts
from flowstat.explain.diff_answers import answers_of
from flowstat.explain.diff_arrows import arrows_of
from flowstat.explain.diff_laws import Tested, adjusted, draws_for, same_law
from flowstat.explain.diff_results import ArrowChanges, Diff, NodeChange, Seen
from flowstat.explain.diff_sides import START, Table, two_sides
from flowstat.read.graph import Graph

__all__ = ["diff"]


def diff(
    before: Counts,
    after: Counts,
    graph: Graph | None = None,
    *,
    rate: float = 0.05,
    level: float = 0.95,
    prior: float = 1.0,
    start: Start = None,
    top: int = 20,
    seed: int = 0,
) -> Diff:
    """Find what changed between two sets of traces of one program.

    Parameters
    ----------
    before, after
        Counts of each: see `count`.
    graph
        The graph of the program: for the prior, keys, and which arrows are declared.
    rate
        The rate of false discoveries, in (0, 1).
    level
        Probability that an interval holds a difference, in (0, 1).
    prior
        As for `estimate`: of both sides.
    start
        A node or a law over nodes for the answers of both sides, and then no test of where runs start; the start law of
        each side if not given.
    top
        How many nodes, arrows and answers of a kind are listed at least, if there are as many; what was found is listed
        in any case. At least 1.
    seed
        Of the tables that are drawn where nodes have few events; at least 0.

    Returns
    -------
    Diff
        Nodes by what they move, with `arrows` and `answers`; the same for the same counts and seed.

    Raises
    ------
    AnalysisError
        If a side has no events, a number is out of its range, or an answer can't be computed.
    ChainError
        If the start is no law over the nodes.

    Notes
    -----
    Each node's send patterns before and after are tested for one law, and where runs start likewise: see
    `flowstat.explain.diff_laws`; and all together by Benjamini and Hochberg. Of a node that is found, its arrows are
    tested in the same way, at the rate times the share of nodes that were found (Benjamini and Bogomolov, Journal of
    the Royal Statistical Society B 76 (2014)). Answers are functions of the shares: they are found if any node is, and
    if their difference stands out from its posterior deviation (two normal laws), again by Benjamini and Hochberg.

    The tests take events at a node for independent of each other, as the chain does. At nodes of loops how many events
    there are hangs on what they send: the likelihood ratio is the same then, and p-values of few events are no longer
    exact, but no smaller than they should be as far as was simulated.

    What a node moves is a sum over its shares, `gradient times change`, such that all parts add up to the change of the
    answer: see `flowstat.explain.diff_sides.moved`. Intervals of differences of answers are those of the delta method
    on both sides, put together (`apart`): estimates, good where every node that matters has some hundred events.

    Linear in patterns and arrows, but for some forty solves (see `solve`) and what `flows` and `loops` take; loops are
    compared up to 3,000 nodes.

    Examples
    --------
    >>> old = Counts({("pay", "ship"): 950, ("pay", ""): 50, ("ship", ""): 950}, {"pay": 1000})
    >>> new = Counts({("pay", "ship"): 850, ("pay", ""): 150, ("ship", ""): 850}, {"pay": 1000})
    >>> found = diff(old, new)
    >>> [(n.node, n.found, n.moves, round(n.effect, 12)) for n in found.nodes if n.found]
    [('pay', True, 'chance:pay', 0.1)]
    """
    for name, value in (("rate", rate), ("level", level)):
        if not 0 < value < 1:
            raise AnalysisError(f"a {name} is between 0 and 1, not {value}")
    if top < 1:
        raise AnalysisError(f"at least one of each kind is listed, not {top}")
    if seed < 0:
        raise AnalysisError(f"a seed is at least 0, not {seed}")
    for counts, when in ((before, "before"), (after, "after")):
        if not counts.events:
            raise AnalysisError(f"there are no events {when}: nothing can be compared")
        if START in counts.nodes:
            raise AnalysisError(f"no node can be called {START!r} here: that is where runs start")
    sides = two_sides(before, after, graph, prior, start)
    table = _table(before, after, begun=start is None)
    tests = _tests(table, rate, seed)
    q = dict(zip(tests, adjusted([t.p for t in tests.values()]), strict=True))
    found = {node for node in tests if q[node] <= rate}
    arrows = arrows_of(sides, table, len(tests), found, rate, level)
    made = answers_of(sides, rate, level, top, any_found=bool(found))
    sure = {arrow.target for arrow in arrows if arrow.found and arrow.seen != "both"}
    there = {*before.nodes}, {*after.nodes}
    # Nodes of which messages were sent to only have no row in the tables.
    names = [*table, *sorted((there[0] | there[1]) - table.keys())]
    nodes = []
    for name in names:
        seen: Seen = "both" if name == START or all(name in side for side in there) else "new"
        seen = "gone" if seen == "new" and name in there[0] else seen
        known = q.get(name)
        changed = name in sure if seen != "both" else known is not None and known <= rate
        node = _node(name, seen, changed, table.get(name, ({}, {})), tests.get(name), known)
        nodes.append(replace(node, **made.effects.get(name, {})))
    scale = max(float(sides[0].visits.values.sum()), 1.0)
    nodes.sort(key=lambda node: (not node.found, node.seen == "both", *_weight(node, scale), node.node))
    place = {node.node: k for k, node in enumerate(nodes)}
    able = [node for node in nodes if node.seen != "both" or node.p_value is not None]
    # Of nodes whose events all do the same there is nothing to tell.
    arrows = [arrow for arrow in arrows if arrow.source in tests or arrow.seen != "both"]
    arrows.sort(key=lambda a: (not a.found, a.seen == "both", place[a.source], -abs(a.difference or 0.0), a.target))
    kept = [node for k, node in enumerate(able) if node.found or node.seen != "both" or k < top]
    listed = [arrow for k, arrow in enumerate(arrows) if arrow.found or arrow.seen != "both" or k < top]
    return Diff(
        tuple(kept),
        ArrowChanges(tuple(listed), level, len(arrows) - len(listed)),
        made.answers,
        (before.runs, after.runs),
        (sum(before.events.values()), sum(after.events.values())),
        len(tests),
        rate,
        len(nodes) - len(able),
        len(able) - len(kept),
        made.unmoved,
    )


def _table(before: Counts, after: Counts, *, begun: bool) -> Table:
    """Return the send patterns of every node on both sides, and by which nodes runs start."""
    table: Table = {START: (dict(before.starts), dict(after.starts))} if begun else {}
    for which, counts in enumerate((before, after)):
        for (node, sent), n in counts.table.items():
            table.setdefault(node, ({}, {}))[which][sent] = n
    return table


def _tests(table: Table, rate: float, seed: int) -> dict[str, Tested]:
    """Return the tests of all nodes that can be tested."""
    able = {node: sides for node, sides in table.items() if all(sides) and len({*sides[0], *sides[1]}) > 1}
    draws = draws_for(len(able), rate)
    tests = {node: _tested(*sides, node, seed, draws) for node, sides in able.items()}
    return {node: test for node, test in tests.items() if test is not None}


def _tested(before: Mapping[str, int], after: Mapping[str, int], name: str, seed: int, draws: int) -> Tested | None:
    things = sorted({*before, *after})
    return same_law([before.get(t, 0) for t in things], [after.get(t, 0) for t in things], name, seed, draws)


def _node(
    name: str,
    seen: Seen,
    found: bool,
    patterns: tuple[dict[str, int], dict[str, int]],
    test: Tested | None,
    q: float | None,
) -> NodeChange:
    n, m = (sum(side.values()) for side in patterns)
    variation = None
    if n and m:
        off = (abs(patterns[0].get(s, 0) * m - patterns[1].get(s, 0) * n) for s in {*patterns[0], *patterns[1]})
        variation = float(Fraction(sum(off), 2 * n * m))
    p, how = (None, None) if test is None else (test.p, test.how)
    return NodeChange(name, seen, found, n, m, variation, p, q, how)


def _weight(node: NodeChange, scale: float) -> tuple[float, float]:
    """Return what nodes are ordered by: what they move, or how sure it is that they changed."""
    effect = abs(node.effect or 0.0) / (scale if node.moves == "events" else 1.0)
    p = 2.0 if node.p_value is None else node.p_value
    return (-effect, p) if node.found else (p, -effect)

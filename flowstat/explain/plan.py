"""Test plans: the fewest runs that cover a graph, the most probable runs, or runs by chance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from flowstat.analyze.simulation import simulate
from flowstat.analyze.variants import variants
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain, Start, estimate, start_law
from flowstat.estimate.counts import Counts
from flowstat.explain.plan_cover import Event, cover
from flowstat.explain.plan_runs import LONGEST, By, Plan, PlannedRun
from flowstat.explain.plan_states import states_of
from flowstat.explain.plan_steps import Ways, ways_of
from flowstat.read.graph import Arrow, Graph
from flowstat.read.topics import ANY_KEY
from flowstat.read.words import quote_key, shown

__all__ = ["plan"]


def plan(
    chain: Chain | Graph,
    by: By = "arrows",
    *,
    runs: int | None = None,
    start: Start = None,
    seed: int = 0,
) -> Plan:
    """Plan runs that test a graph.

    Parameters
    ----------
    chain
        A graph, or the chain of one. A run may end where its chain stops, and start where its runs do, or where no
        arrow leads.
    by
        `arrows`: the fewest runs that cover every arrow; `pairs`: and every two arrows in a row; `probable`: the most
        probable runs, best first; `random`: runs by chance, as the chain has them.
    runs
        How many runs, for `probable` and `random` ones (10 if not given); at least 1.
    start
        A node or a law over nodes: runs start there and nowhere else.
    seed
        Of random runs; at least 0.

    Returns
    -------
    Plan
        The same for the same chain and seed.

    Raises
    ------
    AnalysisError
        If a number is out of its range, or no plan is found.
    ChainError
        If the start is no law over the nodes.

    Notes
    -----
    An event takes one step: a key, which goes along all arrows that match it; so a run is a tree, covers all of its
    branches, and counts once. The number of runs that cover all arrows is the least one, proven, and so is then the
    number of events, by an integer program over steps: see `flowstat.explain.plan_cover`. Without fan-out that is a
    minimum flow with lower bounds, and solved as fast as one. Where no run can end, runs are cut off.

    Examples
    --------
    >>> from flowstat.read.files import parse_graph
    >>> found = plan(parse_graph("pay/retry -> pay; pay/ok -> ship; pay/no -> declined"))
    >>> [(run.walk, run.keys) for run in found.runs]
    [(('pay', 'pay', 'ship'), ('retry', 'ok', None)), (('pay', 'declined'), ('no', None))]
    >>> found.least
    2
    """
    if isinstance(chain, Graph):
        chain = estimate(Counts(), chain)
    if by not in ("arrows", "pairs", "probable", "random"):
        raise AnalysisError(f"runs are planned by arrows, pairs, probable or random, not by {shown(str(by))}")
    if runs is not None and (by in ("arrows", "pairs") or runs < 1):
        raise AnalysisError(
            f"the number of runs that cover {by} is found, not given"
            if by in ("arrows", "pairs")
            else "plan at least one run"
        )
    law = start_law(chain, start)
    begins = law > 0
    if start is None and chain.graph is not None:
        led_to = {arrow.target for arrow in chain.graph.arrows if arrow.target != arrow.source}
        begins = begins | np.array([name in chain.graph.outgoing and name not in led_to for name in chain.names])
    ways = ways_of(chain, tuple(np.flatnonzero(begins).tolist()))
    if by in ("arrows", "pairs"):
        return _covering(ways, pairs=by == "pairs")
    number_of = 10 if runs is None else runs
    walks: Iterable[tuple[tuple[str, ...], float | None, float]]
    more = True
    if by == "probable":
        found = variants(chain, number_of, start)
        walks, more = [(v.nodes, v.probability, v.error_bound) for v in found.variants], found.more
    else:
        played = simulate(chain, number_of, seed, start=start, paths=number_of, max_length=LONGEST)
        walks = [(path, None, 0.0) for path in played.paths]
    planned = [run for run in (_along(chain, ways, *walk) for walk in walks) if run is not None]
    taken = _Taken(ways, pairs=False)
    left_out = number_of - len(planned) if by == "random" else len(list(walks)) - len(planned)
    return Plan(
        taken.counted(planned, ordered=False),
        by,
        len(ways.arrows),
        left_out=left_out,
        more=more,
        seed=seed if by == "random" else None,
        fans_out=taken.fans_out(planned),
    )


def _covering(ways: Ways, *, pairs: bool) -> Plan:
    states = states_of(ways, pairs=pairs)
    made = cover(ways, states)
    planned = [_flat(ways, states.node, run) for run in made.runs]
    taken = _Taken(ways, pairs=pairs)
    able = {item for covers in states.covers for item in covers}
    return Plan(
        taken.counted(planned, ordered=True),
        "pairs" if pairs else "arrows",
        len(able) + len(states.missing),
        tuple(_written(ways, item) for item in states.missing),
        made.least,
        made.least_events,
        fans_out=taken.fans_out(planned),
    )


def _flat(ways: Ways, node: list[int], first: Event) -> PlannedRun:
    """Return a run with its events in one list: each branch to its end, in the order of the arrows."""
    walk: list[str] = []
    keys: list[str | None] = []
    parents: list[int | None] = []
    cut = False
    todo: list[tuple[Event, int | None]] = [(first, None)]
    while todo:
        event, parent = todo.pop()
        todo += [(then, len(walk)) for then in reversed(event.then)]
        walk.append(ways.names[node[event.state]])
        keys.append(None if event.step is None else event.step.key)
        parents.append(parent)
        cut |= event.step is None and node[event.state] in ways.open
    return PlannedRun(tuple(walk), tuple(keys), tuple(parents), open=cut)


def _along(
    chain: Chain, ways: Ways, nodes: tuple[str, ...], probability: float | None, bound: float
) -> PlannedRun | None:
    """Return the run that is a walk; None where the graph has no such arrows."""
    path = [chain.index[name] for name in nodes]
    keys: list[str | None] = []
    for i, j in pairwise(path):
        step = min((s for s in ways.steps[i] if j in s.targets), key=lambda s: len(s.targets), default=None)
        if step is None:
            return None
        keys.append(step.key)
    parents = (None, *range(len(nodes) - 1))
    cut = path[-1] not in ways.ends or len(path) >= LONGEST
    return PlannedRun(nodes, (*keys, None), parents, 0, probability, bound, cut)


class _Taken:
    """What runs cover: arrows, and pairs of them."""

    def __init__(self, ways: Ways, *, pairs: bool) -> None:
        self.ways = ways
        self.pairs = pairs
        self.steps = {(ways.names[step.source], step.key): step for own in ways.steps for step in own}

    def by(self, run: PlannedRun) -> set[Any]:
        """Return what a run covers."""
        found: set[Any] = set()
        for node, key, parent in zip(run.walk, run.keys, run.parents, strict=True):
            if key is None:
                continue
            arrows = self.steps[node, key].arrows
            found.update(arrows)
            if self.pairs and parent is not None:
                before = self.steps[run.walk[parent], run.keys[parent] or ""].arrows
                found.update((a, b) for a in before if self.ways.arrows[a].target == node for b in arrows)
        return found

    def counted(self, planned: list[PlannedRun], *, ordered: bool) -> tuple[PlannedRun, ...]:
        """Return runs with what each is the first to cover; those that cover most first, if they may be `ordered`."""
        taken = [self.by(run) for run in planned]
        order = range(len(planned))
        by_size = sorted(order, key=lambda k: (-len(taken[k]), planned[k].walk))
        seen: set[Any] = set()
        made = []
        for k in by_size if ordered else order:
            made.append(replace(planned[k], covers=len(taken[k] - seen)))
            seen |= taken[k]
        return tuple(made)

    def fans_out(self, planned: list[PlannedRun]) -> bool:
        """Whether some event of some run sends to several nodes."""
        several = {of for of, step in self.steps.items() if len(step.targets) > 1}
        return any((n, k) in several for run in planned for n, k in zip(run.walk, run.keys, strict=True))


def _written(ways: Ways, item: Any) -> str:
    """Return an arrow, or two in a row, as a graph file writes them."""
    if isinstance(item, tuple):
        first, then = (ways.arrows[k] for k in item)
        return f"{_one(first)}{_key(then)} -> {shown(then.target)}"
    return _one(ways.arrows[item])


def _one(arrow: Arrow) -> str:
    return f"{shown(arrow.source)}{_key(arrow)} -> {shown(arrow.target)}"


def _key(arrow: Arrow) -> str:
    return "" if arrow.key == ANY_KEY else f"/{shown(quote_key(arrow.key))}"

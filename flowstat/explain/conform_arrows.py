"""Flows beside the arrows of a graph: those that are not declared, arrows never seen, messages that no arrow took."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from math import expm1, log

from flowstat.estimate.counts import Counts
from flowstat.estimate.flows_seen import Flow, FlowsSeen
from flowstat.estimate.histories import START
from flowstat.explain.conform_results import Dropped, DroppedKey, Undeclared, UndeclaredFlow, Unseen, UnseenArrow
from flowstat.read.graph import Graph
from flowstat.read.topics import matches

__all__ = ["Declared", "dropped", "undeclared", "unseen"]


@dataclass(frozen=True, eq=False)
class Declared:
    """Which flows a graph allows.

    Examples
    --------
    >>> from flowstat.read.files import parse_graph
    >>> declared = Declared(parse_graph("a/ok.# -> b"))
    >>> [declared.allows(Flow("a", "b", key)) for key in ("ok.eu", "no", None)]
    [True, False, True]
    """

    graph: Graph

    @cached_property
    def between(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """Node -> target -> the keys of the arrows there."""
        found: dict[str, dict[str, tuple[str, ...]]] = {node: {} for node in self.graph.nodes}
        for source, key, target, _ in self.graph.arrows:
            found[source][target] = (*found[source].get(target, ()), key)
        return found

    def allows(self, flow: Flow) -> bool:
        """Return whether some arrow allows a flow; a key that was not recorded may be any. Dropped ones: never."""
        if flow.target is None:
            return False
        if flow.source is None:
            return flow.target in self.between
        keys = self.between.get(flow.source, {}).get(flow.target, ())
        return bool(keys) if flow.key is None else any(matches(pattern, flow.key) for pattern in keys)


def undeclared(declared: Declared, counts: Counts, seen: FlowsSeen) -> Undeclared:
    """List the flows that are not declared.

    Messages are counted as they were recorded, with their keys; those of which only the sender's pattern tells are
    added without a key.

    Examples
    --------
    >>> from flowstat.read.files import parse_graph
    >>> seen = FlowsSeen({Flow("a", "c", "x"): 2})
    >>> found = undeclared(Declared(parse_graph("a -> b")), Counts({("a", "c"): 3}), seen)
    >>> [(flow.key, flow.messages) for flow in found.flows]
    [('x', 2), (None, 1)]
    """
    told: Counter[Flow] = Counter({flow: n for flow, n in seen.messages.items() if flow.target is not None})
    recorded: Counter[tuple[str, str]] = Counter()
    sent: Counter[str] = Counter()
    for flow, n in told.items():
        if flow.source is not None and flow.target is not None:
            recorded[flow.source, flow.target] += n
    for (source, target), n in counts.messages.items():
        sent[source] += max(n, recorded[source, target])
        if n > recorded[source, target] and not declared.allows(Flow(source, target, None)):
            told[Flow(source, target, None)] += n - recorded[source, target]
    for (source, target), n in recorded.items():
        if (source, target) not in counts.messages:
            sent[source] += n
    found = []
    for flow, n in told.items():
        if flow.target is None or declared.allows(flow):
            continue
        examples = seen.examples.get(flow) or seen.senders.get((flow.source or "", flow.target), [])
        total = sent[flow.source] if flow.source is not None else counts.runs
        source = START if flow.source is None else flow.source
        found.append(UndeclaredFlow(source, flow.target, flow.key, n, min(1.0, n / max(total, n)), tuple(examples)))
    return Undeclared(tuple(sorted(found, key=lambda f: (-f.messages, f.source, f.target, f.key or ""))))


def unseen(declared: Declared, counts: Counts, seen: FlowsSeen, level: float) -> Unseen:
    """List the arrows that were never seen, each with the largest share that this much data allows.

    Of n events none sent along it: `1 - (1 - level)^(1/n)` is the upper Clopper-Pearson bound (Biometrika 26 (1934)).

    Examples
    --------
    >>> from flowstat.read.files import parse_graph
    >>> found = unseen(Declared(parse_graph("a -> b, c")), Counts({("a", "b"): 59}), FlowsSeen(), 0.95)
    >>> [(arrow.target, round(arrow.share_below, 4)) for arrow in found.arrows]
    [('c', 0.0495)]
    """
    known: dict[tuple[str, str], Counter[str | None]] = {}
    for (source, target, key), n in seen.messages.items():
        if source is not None and target is not None:
            known.setdefault((source, target), Counter())[key] += n
    for pair, n in counts.messages.items():
        keys = known.setdefault(pair, Counter())
        keys[None] += max(0, n - keys.total())
    found, untold = [], 0
    for source, key, target, share in declared.graph.arrows:
        keys = known.get((source, target), Counter())
        if any(n and k is not None and matches(key, k) for k, n in keys.items()):
            continue
        if keys[None]:
            # One arrow alone takes what has no key.
            untold += len(declared.between[source][target]) > 1
            continue
        events = counts.events.get(source, 0)
        bound = -expm1(log(1 - level) / events) if events else 1.0
        found.append(UnseenArrow(source, key, target, events, bound, share, share is not None and share > bound))
    found.sort(key=lambda arrow: -arrow.events)
    return Unseen(tuple(found), level, untold, len(declared.graph.arrows))


def dropped(counts: Counts, seen: FlowsSeen) -> Dropped:
    """List the keys of messages that no arrow took; those that are known by their number only have none.

    Examples
    --------
    >>> found = dropped(Counts(dropped={"a": 3}), FlowsSeen({Flow("a", None, "no"): 2}))
    >>> [(each.key, each.messages) for each in found.keys]
    [('no', 2), (None, 1)]
    """
    told: Counter[tuple[str, str | None]] = Counter()
    for (source, target, key), n in seen.messages.items():
        if source is not None and target is None:
            told[source, key] += n
    for node, n in counts.dropped.items():
        told[node, None] += max(0, n - sum(m for (source, _), m in told.items() if source == node))
    found = [
        DroppedKey(node, key, n, tuple(seen.examples.get(Flow(node, None, key), [])))
        for (node, key), n in told.items()
        if n
    ]
    return Dropped(tuple(sorted(found, key=lambda each: (-each.messages, each.node, each.key or ""))))

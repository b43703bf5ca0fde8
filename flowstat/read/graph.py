"""The graph of possible flows: nodes, arrows between them, and components beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Literal, NamedTuple

from flowstat.errors import GraphError
from flowstat.read.topics import ANY_KEY
from flowstat.read.words import is_storable, shown

__all__ = ["Arrow", "Component", "Graph", "Route", "share_excess"]

SHARE_SLACK = 1e-9
"""How far a node's shares may add up to more than 1 through decimal rounding."""


class Arrow(NamedTuple):
    """Messages sent at `source` with a topic key that matches `key` go to `target`.

    `share` is the designer's expected share of the source's messages in [0, 1], or None.
    """

    source: str
    key: str
    target: str
    share: float | None = None


class Route(NamedTuple):
    """Where a component's output goes: to `target`, with the topic key `key`."""

    target: str
    key: str = ANY_KEY


@dataclass(frozen=True)
class Component:
    """An external program beside the graph: a `source`, a `sink` or a `wire`.

    `command` is its argument list. `node` is the node whose behaviour it is (None for a source);
    `routes` say where its output lines go (none for a sink).
    """

    command: tuple[str, ...]
    node: str | None = None
    routes: tuple[Route, ...] = ()

    @property
    def kind(self) -> Literal["source", "sink", "wire"]:
        """Whether it only makes messages, only takes them, or does both."""
        if self.node is None:
            return "source"
        return "wire" if self.routes else "sink"


@dataclass(frozen=True)
class Graph:
    """Which messages can flow where.

    `nodes` are unique names in order of appearance, `arrows` unique (source, key, target) triples in
    order, `components` the programs tied to nodes. Make one from its arrows with `Graph.of`.
    """

    nodes: tuple[str, ...]
    arrows: tuple[Arrow, ...] = ()
    components: tuple[Component, ...] = ()

    @classmethod
    def of(
        cls,
        arrows: Iterable[Arrow] = (),
        nodes: Iterable[str] = (),
        components: Iterable[Component] = (),
    ) -> Graph:
        """Make a graph; its nodes are `nodes`, then those of the arrows and components, in order.

        The same arrow twice is one arrow, and its share is the one that is given. A wire's arrows are
        added where they are missing.

        Raises
        ------
        GraphError
            For an empty name, a share outside [0, 1], two different shares for one arrow, or a node
            whose shares add up to more than 1.

        Examples
        --------
        >>> Graph.of([Arrow("a", "#", "b", 0.25), Arrow("a", "#", "a")]).nodes
        ('a', 'b')
        """
        order: dict[str, None] = dict.fromkeys(nodes)
        shares: dict[tuple[str, str, str], float | None] = {}
        components = tuple(dict.fromkeys(components))
        wired = (Arrow(c.node, r.key, r.target) for c in components if c.node is not None for r in c.routes)
        for arrow in (*arrows, *wired):
            source, key, target, share = arrow
            written = f"{shown(source)}/{shown(key)} -> {shown(target)}"
            order[source] = order[target] = None
            if share is not None and not 0 <= share <= 1:
                raise GraphError(f"the share {share} of {written} is not between 0 and 1")
            known = shares.setdefault((source, key, target), share)
            if known is None:
                shares[source, key, target] = share
            elif share is not None and share != known:
                raise GraphError(f"the arrow {written} has two shares: {known} and {share}")
        for component in components:
            if component.node is None and not component.routes:
                raise GraphError("a component needs a node to take messages from, or one to send them to")
            if component.node is not None:
                order[component.node] = None
            order.update(dict.fromkeys(route.target for route in component.routes))
        if "" in order:
            raise GraphError("a node needs a name: the empty name is not allowed")
        for word in (*order, *(key for _, key, _ in shares), *(r.key for c in components for r in c.routes)):
            if not is_storable(word):
                raise GraphError(f"{word[:40]!a} has half a surrogate pair: no file can hold it")
        made = tuple(Arrow(*triple, share) for triple, share in shares.items())
        for node, excess in share_excess(made):
            raise GraphError(f"the shares of the arrows out of {shown(node)} add up to {1 + excess:g}, more than 1")
        return cls(tuple(order), made, components)

    @cached_property
    def outgoing(self) -> dict[str, tuple[Arrow, ...]]:
        """For every node, its arrows out, in order."""
        out: dict[str, list[Arrow]] = {node: [] for node in self.nodes}
        for arrow in self.arrows:
            out[arrow.source].append(arrow)
        return {node: tuple(arrows) for node, arrows in out.items()}

    @cached_property
    def starts(self) -> tuple[str, ...]:
        """Where runs start when nothing else is known.

        The nodes that receive a source component's messages or that no arrow leads to; if there is none
        (every node is on a loop), all nodes.
        """
        led_to = {arrow.target for arrow in self.arrows if arrow.target != arrow.source}
        fed = {route.target for c in self.components if c.node is None for route in c.routes}
        starts = tuple(node for node in self.nodes if node not in led_to or node in fed)
        return starts or self.nodes

    def arrow_shares(self, node: str) -> tuple[float, ...]:
        """Return the designer's share of each of the node's arrows out, in their order, each in [0, 1].

        Arrows with an `@` share have that; what they leave of 1 is spread evenly over the arrows
        without one; if all have one, what they leave is the share of events that send nothing.
        """
        arrows = self.outgoing[node]
        given = sum(a.share for a in arrows if a.share is not None)
        silent = sum(a.share is None for a in arrows)
        # Decimal shares such as ten times 0.1 add up to almost 1: they mean 1.
        scale = 1 / given if abs(given - 1) <= SHARE_SLACK else 1.0
        even = max(0.0, 1 - given * scale) / silent if silent else 0.0
        return tuple(even if a.share is None else a.share * scale for a in arrows)

    def expected_shares(self, node: str) -> dict[str, float]:
        """Return the designer's law of the next node: target -> share; what is missing to 1 is the stop.

        A target's share is that of its arrows together: see `arrow_shares`.
        """
        law: dict[str, float] = {}
        for arrow, share in zip(self.outgoing[node], self.arrow_shares(node), strict=True):
            law[arrow.target] = law.get(arrow.target, 0.0) + share
        return law

    def expected_stop(self, node: str) -> float:
        """Return the designer's share of the node's events that send nothing, in [0, 1]."""
        arrows = self.outgoing[node]
        if not arrows:
            return 1.0
        if any(arrow.share is None for arrow in arrows):
            return 0.0
        # Shares are decimals: what 0.9 and 0.05 leave is 0.05, not 0.04999....
        rest = float(1 - sum(Fraction(repr(arrow.share)) for arrow in arrows))
        return rest if rest > SHARE_SLACK else 0.0


def share_excess(arrows: Iterable[Arrow]) -> Iterator[tuple[str, float]]:
    """Yield each node whose arrows' shares add up to more than 1, and by how much."""
    totals: dict[str, float] = {}
    for arrow in arrows:
        if arrow.share is not None:
            totals[arrow.source] = totals.get(arrow.source, 0.0) + arrow.share
    for node, total in totals.items():
        if total > 1 + SHARE_SLACK:
            yield node, total - 1

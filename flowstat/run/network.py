"""The graph as the event loop walks it: nodes that handle, hops that messages take, routes worked out once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from random import Random

from flowstat.errors import RunError
from flowstat.read.graph import Graph
from flowstat.read.patterns import format_pattern
from flowstat.read.topics import matches
from flowstat.read.words import shown
from flowstat.run.behaviour import Handler, unknown_node

__all__ = ["Clock", "Codes", "Hop", "Network", "Node", "Queued", "Route", "Settle"]

Clock = Callable[[], int]
"""Nanoseconds since 1970."""

KEPT = 65_536
"""How many hops or send patterns are kept: keys may be as many as messages."""


class Codes:
    """Small numbers for what the rows of a trace repeat; a batch of rows is made from them at once.

    A hop's code is its place in `parent`, `name` and `key`, which hold places in `nodes` and `keys`, or
    -1 for null. Send patterns are numbered by `sent`; 0 is the empty one.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, int] = {}
        self.keys: dict[str, int] = {}
        self.sent: dict[str, int] = {"": 0}
        self.parent: list[int] = []
        self.name: list[int] = []
        self.key: list[int] = []

    def add(self, parent: str | None, name: str | None, key: str | None) -> int:
        """Number a hop."""
        for column, codes, word in (
            (self.parent, self.nodes, parent),
            (self.name, self.nodes, name),
            (self.key, self.keys, key),
        ):
            column.append(-1 if word is None else codes.setdefault(word, len(codes)))
        return len(self.name) - 1

    def pattern(self, targets: Iterable[str]) -> int:
        """Number the send pattern of these targets."""
        return self.sent.setdefault(format_pattern(targets), len(self.sent))


class Hop:
    """One way a message can go: from a node (None: injected), with a key, to a node."""

    __slots__ = ("code", "key", "node", "parent")

    def __init__(self, parent: str | None, key: str | None, node: Node, codes: Codes) -> None:
        self.parent = parent
        self.key = key
        self.node = node
        self.renumber(codes)

    def renumber(self, codes: Codes) -> None:
        """Take a code among new ones."""
        self.code = codes.add(self.parent, self.node.name, self.key)


class Route:
    """Where an emit goes: its hops and their send pattern; or, if none, the code and key of a dropped message."""

    __slots__ = ("dropped", "hops", "only", "sent")

    def __init__(self, hops: tuple[Hop, ...], sent: int, dropped: tuple[int, str] | None = None) -> None:
        self.hops = hops
        self.sent = sent
        self.dropped = dropped
        self.only = hops[0] if len(hops) == 1 else None


class Node:
    """A node at run time: its behaviour and state, and the emits of the event that it handles."""

    __slots__ = ("context", "handle", "name", "outbox", "routes", "state")

    def __init__(self, name: str) -> None:
        self.name = name
        self.handle: Handler = _end
        self.state: object = None
        self.outbox: list[tuple[Route, object]] = []
        self.routes: dict[object, Route] = {}
        self.context: object = None


Queued = tuple[Hop, int, object, int | None]
"""A message that waits: its hop, the span id of the event that sent it (0: injected), its body, sent when."""

Settle = Callable[["Network", Node], None]
"""Gives a new node its behaviour and state."""


class Network:
    """Nodes and routes, made when they are first needed; nothing here does input or output."""

    def __init__(self, graph: Graph, settle: Settle, seed: int, clock: Clock | None, max_queue: int) -> None:
        self.graph = graph
        self.random = Random(seed)
        self.clock = clock
        self.max_queue = max_queue
        self.codes = Codes()
        self._settle = settle
        self._nodes: dict[str, Node] = {}
        self._injections: dict[tuple[str, str], Hop] = {}
        self._together: dict[tuple[int, ...], int] = {}

    def node(self, name: str) -> Node:
        """Return a node of the graph."""
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = Node(name)
            node.context = _Context(node, self)
            self._settle(self, node)
        return node

    def hop(self, parent: str | None, key: str | None, target: str) -> Hop:
        """Make a hop."""
        return Hop(parent, key, self.node(target), self.codes)

    def injection(self, injection: tuple[str, str, object]) -> tuple[Hop, object]:
        """Return the hop and the body of an injected message, or raise what is wrong with it."""
        try:
            name, key, body = injection
        except (TypeError, ValueError):
            raise RunError(f"an injection is (node, key, body), not {shown(repr(injection))}") from None
        try:
            return self._injections[name, key], body
        except (KeyError, TypeError):
            if not isinstance(name, str) or name not in self.graph.outgoing:
                raise RunError(f"can't inject a message: {unknown_node(name, self.graph)}") from None
            try:
                hop = self._injections[name, key] = self.hop(None, _checked(key), name)
            except (TypeError, ValueError) as error:
                raise RunError(f"can't inject a message to {shown(name)}: {error}") from None
            return hop, body

    def route(self, node: Node, key: str) -> Route:
        """Return where an emit of the node with this key goes; arrows to one target give one copy."""
        _checked(key)
        arrows = self.graph.outgoing[node.name]
        targets = tuple(dict.fromkeys(a.target for a in arrows if matches(a.key, key)))
        hops = tuple(self.hop(node.name, key, target) for target in targets)
        dropped = None if hops else (self.codes.add(node.name, None, key), key)
        route = node.routes[key] = Route(hops, self.codes.pattern(targets), dropped)
        return route

    def along(self, node: Node, key: str | None, target: str) -> Route:
        """Return the route along one arrow, whatever the others of the node are."""
        return Route((self.hop(node.name, key, target),), self.codes.pattern((target,)))

    def together(self, routes: Iterable[Route]) -> int:
        """Number the send pattern of several emits."""
        routes = tuple(routes)
        parts = tuple([route.sent for route in routes])
        sent = self._together.get(parts)
        if sent is None:
            targets = (hop.node.name for route in routes for hop in route.hops)
            sent = self._together[parts] = self.codes.pattern(targets)
        return sent

    def tidy(self, queue: deque[Queued]) -> None:
        """Forget routes when there are many; to be called when no row waits to be written.

        Hops that are under way are numbered anew, so that what follows is as before.
        """
        if max(len(self.codes.name), len(self._together)) <= KEPT:
            return
        self.codes = Codes()
        self._injections.clear()
        self._together.clear()
        for node in self._nodes.values():
            node.routes.clear()
        for hop in dict.fromkeys(queued[0] for queued in queue):
            hop.renumber(self.codes)

    def late_emits(self) -> str | None:
        """Return a node whose emit came when it was not handling a message."""
        return next((node.name for node in self._nodes.values() if node.outbox), None)


class Flood(RunError):
    """One event emits more than the queue may hold; raised inside the behaviour, and ends the run."""


class _Context:
    """The `Context` of one node."""

    __slots__ = ("_limit", "_network", "_node", "_outbox", "_routes", "node", "random")

    def __init__(self, node: Node, network: Network) -> None:
        self.node = node.name
        self.random = network.random
        self._node = node
        self._network = network
        self._routes = node.routes
        self._outbox = node.outbox
        # Counted in emits, each of which may be a copy for every arrow.
        self._limit = max(1, network.max_queue // max(1, len(network.graph.outgoing[node.name])))

    @property
    def now(self) -> int | None:
        clock = self._network.clock
        return None if clock is None else clock()

    def emit(self, body: object = None, key: str = "") -> None:
        try:
            route = self._routes[key]
        except (KeyError, TypeError):
            route = self._network.route(self._node, key)
        if len(self._outbox) >= self._limit:
            raise Flood(f"one event of {shown(self.node)} emitted more than {self._network.max_queue:,} messages")
        self._outbox.append((route, body))


def _checked(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a topic key is a text, not {shown(repr(key))}")
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the topic key {shown(ascii(key))} is not valid text: {error.reason}") from None
    return key


def _end(state: object, message: object, ctx: object) -> None:
    """Handle a message at a node that nothing leads away from."""

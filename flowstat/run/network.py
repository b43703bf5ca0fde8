"""The graph as the event loop walks it: nodes that handle, hops that messages take, routes worked out once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from random import Random

from flowstat.errors import RunError
from flowstat.read.graph import Graph
from flowstat.read.topics import matches
from flowstat.read.words import shown
from flowstat.run.behaviour import Handler, Retry, unknown_node
from flowstat.run.codes import Codes
from flowstat.run.digest import digest
from flowstat.run.moments import SECOND, nanoseconds

__all__ = ["SECOND", "Clock", "Delay", "Flood", "Hop", "Network", "Node", "Route", "Settle", "nanoseconds"]

Clock = Callable[[], int]
"""Nanoseconds since 1970."""

Delay = Callable[[], int]
"""Draws how long a message is under way, in nanoseconds."""

KEPT = 65_536
"""How many hops or send patterns are kept: keys may be as many as messages."""


class Hop:
    """One way a message can go: from a node (None: injected), with a key, to a node.

    `tried` says how often its node failed on the message already, `delay` draws how long it is under way.
    """

    __slots__ = ("code", "delay", "key", "node", "parent", "tried")

    def __init__(
        self, parent: str | None, key: str | None, node: Node, codes: Codes, tried: int = 0, delay: Delay | None = None
    ) -> None:
        self.parent = parent
        self.key = key
        self.node = node
        self.tried = tried
        self.delay = delay
        self.renumber(codes)

    def renumber(self, codes: Codes) -> None:
        """Take a code among new ones."""
        self.code = codes.add(self.parent, self.node.name, self.key)


class Route:
    """Where an emit goes: its hops and their send pattern; or, if none, the code and key of a dropped message.

    With a `wait`, in nanoseconds, it goes there that much later. `only` is the hop of a route of just one, and no wait.
    """

    __slots__ = ("dropped", "hops", "only", "sent", "wait")

    def __init__(self, hops: tuple[Hop, ...], sent: int, dropped: tuple[int, str] | None = None, wait: int = 0) -> None:
        self.hops = hops
        self.sent = sent
        self.dropped = dropped
        self.wait = wait
        self.only = hops[0] if len(hops) == 1 and not wait else None

    def later(self, wait: int) -> Route:
        """Return the same route, so many nanoseconds later."""
        return Route(self.hops, self.sent, self.dropped, wait) if wait else self


class Node:
    """A node at run time: its behaviour and state, and the emits of the event that it handles.

    `wired` says that a program handles its messages, and answers later.
    """

    __slots__ = ("context", "handle", "name", "outbox", "retry", "routes", "state", "wired")

    def __init__(self, name: str) -> None:
        self.name = name
        self.handle: Handler = _end
        self.state: object = None
        self.outbox: list[tuple[Route, object]] = []
        self.routes: dict[object, Route] = {}
        self.context: object = None
        self.retry: Retry | None = None
        self.wired = False


Settle = Callable[["Network", Node], None]
"""Gives a new node its behaviour and state."""


class Network:
    """Nodes and routes, made when they are first needed; nothing here does input or output.

    `clock` is None where time does not count; `pause` lets so many nanoseconds pass within a behaviour; `delays` tells
    how long messages from one node (None: injected) to another are under way, if that is more than nothing;
    `hand_over` gives a message (node, key, body) to the program of its node.
    """

    def __init__(self, graph: Graph, settle: Settle, seed: int, max_queue: int) -> None:
        self.graph = graph
        self.random = Random(seed)
        self.clock: Clock | None = None
        self.pause: Callable[[int], Awaitable[None]] = _no_time
        self.delays: Callable[[str | None, str], Delay | None] = _at_once
        self.hand_over: Callable[[str, str, object], object] = _to_nobody
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
        return Hop(parent, key, self.node(target), self.codes, delay=self.delays(parent, target))

    def injection(self, injection: tuple[str, str, object]) -> tuple[Hop, object]:
        """Return the hop and the body of an injected message, or raise what is wrong with it."""
        try:
            name, key, body = injection
            return self._injections[name, key], body
        except (KeyError, TypeError, ValueError):
            self.check(injection)
        hop = self._injections[name, key] = self.hop(None, key, name)
        return hop, body

    def check(self, injection: tuple[str, str, object]) -> None:
        """Raise what is wrong with an injected message, if anything."""
        if not isinstance(injection, (tuple, list)) or len(injection) != 3:
            raise RunError(f"an injection is (node, key, body), not {shown(repr(injection))}")
        name, key, _ = injection
        if not isinstance(name, str) or name not in self.graph.outgoing:
            raise RunError(f"can't inject a message: {unknown_node(name, self.graph)}")
        try:
            _checked(key)
        except (TypeError, ValueError) as error:
            raise RunError(f"can't inject a message to {shown(name)}: {error}") from None

    def checked(self, injections: Iterable[tuple[str, str, object]]) -> Iterator[tuple[str, str, object]]:
        """Yield injected messages, each of them found right: before a journal keeps it."""
        for injection in injections:
            self.check(injection)
            yield injection

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

    def again(self, node: Node, tried: int) -> Route:
        """Return where a message goes that its node failed on so many times, by the node's retry policy."""
        retry = node.retry
        assert retry is not None
        if tried > retry.times:
            return self.routed(node, retry.then)
        route = self.routed(node, retry.key)
        hops = tuple(
            Hop(h.parent, h.key, h.node, self.codes, tried, h.delay) if h.node is node else h for h in route.hops
        )
        return Route(hops, route.sent, route.dropped, nanoseconds(retry.after(tried)))

    def routed(self, node: Node, key: str) -> Route:
        """Return where an emit of the node with this key goes, worked out once."""
        return node.routes.get(key) or self.route(node, key)

    def together(self, routes: Iterable[Route]) -> int:
        """Number the send pattern of several emits."""
        routes = tuple(routes)
        parts = tuple([route.sent for route in routes])
        sent = self._together.get(parts)
        if sent is None:
            targets = (hop.node.name for route in routes for hop in route.hops)
            sent = self._together[parts] = self.codes.pattern(targets)
        return sent

    def tidy(self, under_way: Iterable[Hop]) -> None:
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
        for hop in dict.fromkeys(under_way):
            hop.renumber(self.codes)

    def most_emits(self, name: str) -> int:
        """Return how often one event of a node may emit: each emit may be a copy for every arrow."""
        return max(1, self.max_queue // max(1, len(self.graph.outgoing[name])))

    def states(self) -> dict[str, str]:
        """Return the digest of each node's state, of those that have one."""
        return {n.name: digest(n.state) for n in self._nodes.values() if n.state is not None}

    def late_emits(self) -> str | None:
        """Return a node whose emit came when it was not handling a message."""
        return next((node.name for node in self._nodes.values() if node.outbox), None)


class Flood(RunError):
    """One event emits more than the queue may hold; raised inside the behaviour, and ends the run."""

    @classmethod
    def of(cls, node: str, limit: int) -> Flood:
        """Return the error of an event of the node that emitted `limit` times, and goes on."""
        return cls(f"one event of {shown(node)} emitted more than {limit:,} times")


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
        self._limit = network.most_emits(node.name)

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
            raise Flood.of(self.node, self._limit)
        self._outbox.append((route, body))

    def after(self, seconds: float, key: str = "", body: object = None) -> None:
        wait = nanoseconds(seconds)
        self.emit(body, key)
        route, body = self._outbox.pop()
        self._outbox.append((route.later(wait), body))

    def sleep(self, seconds: float) -> Awaitable[None]:
        return self._network.pause(nanoseconds(seconds))


async def _no_time(wait: int) -> None:
    """Let no time pass: none is kept."""


def _to_nobody(node: str, key: str, body: object) -> None:
    """Give a message to no program: in a replay the journal has its answers."""


def _at_once(parent: str | None, target: str) -> None:
    """Let no message be under way for any time."""


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

"""Messages from outside: read from JSON Lines, or spread over nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import cycle, islice

import orjson

from flowstat.errors import RunError
from flowstat.read.graph import Graph
from flowstat.run.behaviour import unknown_node
from flowstat.run.follow import walk_of
from flowstat.run.loop import Injection

__all__ = ["read_injections", "spread"]

MESSAGE = frozenset(("node", "key", "body"))
PLANNED = frozenset(("walk", "keys", "parents"))
"""What a line of a plan has besides: see `flowstat.run.follow`."""


def read_injections(lines: Iterable[bytes], origin: str, *, follow: bool = False) -> Iterator[Injection]:
    """Read messages to inject, lazily: one JSON object a line, with `node` and optionally `key` and `body`.

    A line of a plan has a `walk` as well, with its `keys` (and `parents`). With `follow` the message's body is what
    nodes without a behaviour follow it by (a body of the line is in there); without, the walk is only what is expected.

    Raises
    ------
    RunError
        Naming the line that is no message.
    """
    for number, line in enumerate(lines, 1):
        if line.isspace():
            continue
        try:
            message = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise RunError(f"{origin}:{number}: not JSON: {error}") from None
        if not isinstance(message, dict) or not isinstance(message.get("node"), str):
            raise RunError(f'{origin}:{number}: a message names its node: {{"node": "order", "key": "", "body": 1}}')
        key = message.get("key", "")
        planned = "walk" in message
        if not isinstance(key, str) or not message.keys() <= MESSAGE | (PLANNED if planned else frozenset()):
            raise RunError(f"{origin}:{number}: a message has a node, a text key and a body, nothing else but a walk")
        walk = walk_of(message, f"{origin}:{number}") if planned else None
        yield message["node"], key, walk if walk is not None and follow else message.get("body")


def spread(graph: Graph, runs: int, starts: Iterable[str] | None = None) -> Iterator[Injection]:
    """Inject `runs` messages without key or body, in turn at `starts` (the graph's own unless given).

    Raises
    ------
    RunError
        If `runs` is negative, there is no start, or one is no node of the graph.
    """
    if runs < 0:
        raise RunError(f"the number of runs is 0 or more, not {runs}")
    nodes = graph.starts if starts is None else tuple(starts)
    for node in nodes:
        if node not in graph.outgoing:
            raise RunError(f"can't start there: {unknown_node(node, graph)}")
    if not nodes:
        raise RunError("no node to start at: name one")
    return ((node, "", None) for node in islice(cycle(nodes), runs))

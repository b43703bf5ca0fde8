"""Messages from outside: read from JSON Lines, or spread over nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import cycle, islice

import orjson

from flowstat.errors import RunError
from flowstat.read.graph import Graph
from flowstat.run.behaviour import unknown_node
from flowstat.run.loop import Injection

__all__ = ["read_injections", "spread"]


def read_injections(lines: Iterable[bytes], origin: str) -> Iterator[Injection]:
    """Read messages to inject, lazily: one JSON object a line, with `node` and optionally `key` and `body`.

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
        if not isinstance(key, str) or not message.keys() <= {"node", "key", "body"}:
            raise RunError(f"{origin}:{number}: a message has a node, a text key and a body, nothing else")
        yield message["node"], key, message.get("body")


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

"""Messages from outside: read from JSON Lines, or spread over nodes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle, islice
from queue import Empty, Queue
from threading import Thread
from typing import Any

import orjson

from flowstat.errors import RunError
from flowstat.read.graph import Graph
from flowstat.run.behaviour import unknown_node
from flowstat.run.follow import walk_of
from flowstat.run.loop import Injection

__all__ = ["Stream", "lines_of", "pulling", "read_injections", "spread", "through"]

AHEAD = 1024
"""Messages of a stream that may wait."""

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


class Stream:
    """Messages that come when they come, such as lines of a pipe: another thread waits for them.

    In real time a run does not wait for the next one while a timer or a component has something to do.

    Parameters
    ----------
    source
        The messages; gone through in another thread, and only as far ahead as 1,024.

    Examples
    --------
    >>> list(Stream([("a", "", 1), ("a", "", 2)]))
    [('a', '', 1), ('a', '', 2)]
    """

    def __init__(self, source: Iterable[Injection]) -> None:
        self.source = source
        self._queue: Queue[Injection | BaseException] = Queue(AHEAD)
        self._over: BaseException | None = None
        self._thread: Thread | None = None

    def __iter__(self) -> Iterator[Injection]:
        return iter(self.source)

    def poll(self, timeout: float | None) -> Injection | None:
        """Return the next message if it comes within so many seconds (None: whenever it comes).

        Raises
        ------
        StopIteration
            If there are no more.
        """
        if self._over is not None:
            raise self._over
        if self._thread is None:
            self._thread = Thread(target=self._read, daemon=True)
            self._thread.start()
        try:
            found = self._queue.get(timeout != 0, timeout or None)
        except Empty:
            return None
        if isinstance(found, BaseException):
            self._over = found
            raise found
        return found

    def _read(self) -> None:
        try:
            for message in self.source:
                self._queue.put(message)
        except BaseException as error:
            self._queue.put(error)
        else:
            self._queue.put(StopIteration())


def pulling(injections: Iterable[Injection]) -> Callable[[float | None], Injection | None]:
    """Return what pulls the next message: of a `Stream` within a time, of anything else whenever it comes."""
    if isinstance(injections, Stream):
        return injections.poll
    each = iter(injections)
    return lambda timeout: next(each)


def through(injections: Iterable[Injection], change: Callable[[Iterable[Injection]], Iterable[Injection]]) -> Any:
    """Return injections with a change made to each, or to which there are; a `Stream` stays one."""
    return Stream(change(injections.source)) if isinstance(injections, Stream) else change(injections)


def lines_of(descriptor: int) -> Iterator[bytes]:
    """Yield the lines of a pipe or terminal as they come; a thread that waits here keeps nobody from ending."""
    held: list[bytes] = []
    while found := os.read(descriptor, 65_536):
        *whole, rest = found.split(b"\n")
        for line in whole:
            yield b"".join((*held, line, b"\n"))
            held.clear()
        held.append(rest)
    if any(held):
        yield b"".join(held)


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

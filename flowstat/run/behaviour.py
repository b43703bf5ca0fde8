"""Behaviours: functions tied to nodes (plain, generators or `async`), and what they are given."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from random import Random
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from flowstat.errors import RunError
from flowstat.read.graph import Graph
from flowstat.read.topics import matches
from flowstat.read.words import is_storable, quote, quote_key, shown
from flowstat.run.moments import nanoseconds

__all__ = [
    "Behaviour",
    "Context",
    "Emit",
    "Handler",
    "Kind",
    "Mark",
    "Message",
    "Retry",
    "check_retry",
    "on",
    "unknown_node",
]

MARKS = "__flowstat_behaviours__"
"""Where a behaviours file keeps its marks: a global of that file."""

SUGGEST_AMONG = 20_000
"""In larger graphs the nearest name takes too long to find."""

Function = TypeVar("Function", bound=Callable[..., object])


class Message(NamedTuple):
    """What a behaviour handles.

    All copies of a message share one body: treat it as a value, and emit a changed one.
    """

    node: str
    key: str
    body: Any
    run: int
    """The run's trace id: 1, 2, 3, ... in the order of the injections."""


class Context(Protocol):
    """What a behaviour may do while it handles a message."""

    @property
    def node(self) -> str:
        """Name of the node."""

    @property
    def random(self) -> Random:
        """The run's only source of chance, seeded by the app's seed."""

    @property
    def now(self) -> int | None:
        """Nanoseconds since 1970 by the run's clock, or None in a run without a clock."""

    def emit(self, body: object = None, key: str = "") -> None:
        """Send a message along every arrow of the node whose key matches, once the behaviour returns."""

    def after(self, seconds: float, key: str = "", body: object = None) -> None:
        """Send a message as `emit` does, but so many seconds later: a timer.

        In a run with a wall clock it waits; in virtual time, or without a clock, time jumps there when nothing else
        is left to do before.
        """

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Let time pass within an `async` behaviour: `await ctx.sleep(0.2)`."""


class Emit(NamedTuple):
    """What a generator yields to send a message with a key; anything else that it yields is a body without one."""

    body: Any = None
    key: str = ""


class Retry(NamedTuple):
    """What becomes of a message whose behaviour raises an exception.

    It is sent again to its node, along the node's own arrow that takes the key `key`, `times` times at most and after
    `wait * factor**k` seconds the k-th time (k = 0, 1, ...); then, with the key `then`, along the arrow that takes it.
    Both are arrows of the graph, so that retries are seen and counted: `pay/retry -> pay; pay/failed -> dead letters;`.
    """

    times: int = 3
    wait: float = 0.0
    factor: float = 2.0
    key: str = "retry"
    then: str = "failed"

    def after(self, tried: int) -> float:
        """Return the seconds to wait after so many attempts, one or more."""
        # Without a wait the power may be too large a number and yet does not count.
        return self.wait * self.factor ** (tried - 1) if self.wait else 0.0


Kind = Literal["plain", "generator", "async", "async generator"]

Handler = Callable[[Any, Message, Any], object]
"""A behaviour's function: `(state, message, ctx)`; what it returns is ignored."""


@dataclass(frozen=True)
class Behaviour:
    """A function tied to a node; `state` makes the node's state at the start of a run of the loop.

    `retry` says what becomes of messages that the function fails on; None: their events end with status `error`.

    Raises
    ------
    RunError
        If the function can't be called with `(state, message, ctx)`, or `retry` is none that can be kept.
    """

    node: str
    function: Handler
    state: Callable[[], object] | None = None
    retry: Retry | None = None

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise RunError(f"the behaviour of {shown(self.node)} is not a function: {self.function!r}")
        parameters = _parameters(self.function)
        try:
            if parameters is not None:
                parameters.bind(None, None, None)
        except TypeError:
            raise RunError(
                f"{self.place()} takes {parameters}: a behaviour takes three values, (state, message, ctx)"
            ) from None
        if self.state is not None and not callable(self.state):
            raise RunError(f"the state of {shown(self.node)} is {self.state!r}: give what makes it, such as state=dict")
        if self.retry is not None:
            _check_policy(self.node, self.retry)

    @property
    def kind(self) -> Kind:
        """What kind of function it is."""
        call = self.function if inspect.isroutine(self.function) else getattr(self.function, "__call__", None)  # noqa: B004
        kinds: tuple[tuple[Callable[[object], bool], Kind], ...] = (
            (inspect.iscoroutinefunction, "async"),
            (inspect.isasyncgenfunction, "async generator"),
            (inspect.isgeneratorfunction, "generator"),
        )
        return next((kind for test, kind in kinds for f in (self.function, call) if test(f)), "plain")

    def place(self) -> str:
        """Return the function's name and where it is, for messages."""
        name = getattr(self.function, "__qualname__", None) or repr(self.function)
        code = getattr(self.function, "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}: {name}" if code else str(name)


def _parameters(function: Handler) -> inspect.Signature | None:
    """Return what a function takes; None for some C functions, which tell nothing: they fail when called."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


class Mark(NamedTuple):
    """A function of a behaviours file that says which node it belongs to."""

    node: str
    function: Handler
    state: Callable[[], object] | None
    retry: Retry | None = None


def on(
    node: str, state: Callable[[], object] | None = None, retry: Retry | None = None
) -> Callable[[Function], Function]:
    """Mark a function of a behaviours file as the behaviour of a node.

    Needed where the node's name is no Python name, or differs from the function's, or has a state.

    Parameters
    ----------
    node
        The node's name in the graph.
    state
        Called without arguments at the start of a run of the loop; makes the `state` that the function is given.
    retry
        What becomes of a message that the function fails on.

    Examples
    --------
    >>> @on("billing eu", state=dict)
    ... def bill(state, message, ctx):
    ...     state[message.body] = state.get(message.body, 0) + 1
    ...     ctx.emit(message.body, key="paid")
    """
    if not isinstance(node, str):
        raise RunError('name the node: @on("billing eu"), not @on')
    # Kept by the file and not by the function: two functions of one name are both seen, and so is a
    # function that another decorator has wrapped.
    marks: list[Mark] = sys._getframe(1).f_globals.setdefault(MARKS, [])

    def mark(function: Function) -> Function:
        marks.append(Mark(node, function, state, retry))
        return function

    return mark


def _check_policy(node: str, retry: Retry) -> None:
    if not isinstance(retry, Retry):
        raise RunError(
            f"the retry of {shown(node)} is {retry!r}: give a policy, such as retry=Retry(times=3, wait=0.5)"
        )
    times = retry.times
    if not isinstance(times, int) or isinstance(times, bool) or times < 1:
        raise RunError(f"{shown(node)} is retried a whole number of times, 1 or more, not {times!r}")
    waits = (retry.wait, retry.factor)
    if not all(isinstance(x, (int, float)) and isfinite(x) and x >= 0 for x in waits) or retry.factor < 1:
        raise RunError(
            f"the retries of {shown(node)} wait 0 or more seconds, each time `factor` (1 or more) times as long: not "
            f"{retry.wait!r} and {retry.factor!r}"
        )
    try:
        nanoseconds(retry.after(times))
    except (OverflowError, RunError):
        raise RunError(
            f"the last of {times:,} retries of {shown(node)} waits too long, {retry.wait:g} * {retry.factor:g}**"
            f"{times - 1} seconds: take fewer `times`, or a smaller `factor`"
        ) from None
    for key in (retry.key, retry.then):
        if not isinstance(key, str) or not is_storable(key):
            raise RunError(f"a key of the retries of {shown(node)} is no text: {key!a}")


def check_retry(behaviour: Behaviour, retry: Retry, graph: Graph) -> None:
    """Check that a graph has an arrow that takes a node's retries.

    Raises
    ------
    RunError
        If it has none, saying which.
    """
    node = behaviour.node
    if not any(a.target == node and matches(a.key, retry.key) for a in graph.outgoing[node]):
        raise RunError(
            f"{behaviour.place()}: no arrow takes its retries back to {shown(node)}: write "
            f"{quote(node)}/{quote_key(retry.key)} -> {quote(node)}; into the graph"
        )


def unknown_node(name: object, graph: Graph) -> str:
    """Return what is wrong with a name that is no node of the graph."""
    if not isinstance(name, str):
        return f"a node's name is a text, not {shown(repr(name))}"
    near = get_close_matches(name, graph.nodes, 1) if len(graph.nodes) <= SUGGEST_AMONG else []
    return f"the graph has no node {shown(name)!r}" + (f": is it {near[0]!r}?" if near else "")

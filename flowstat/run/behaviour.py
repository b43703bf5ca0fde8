"""Behaviours: plain functions tied to nodes, and what they are given."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from random import Random
from typing import Any, NamedTuple, Protocol, TypeVar

from flowstat.errors import RunError
from flowstat.read.graph import Graph
from flowstat.read.words import shown

__all__ = ["Behaviour", "Context", "Handler", "Mark", "Message", "on", "unknown_node"]

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


Handler = Callable[[Any, Message, Any], object]
"""A behaviour's function: `(state, message, ctx)`; what it returns is ignored."""


@dataclass(frozen=True)
class Behaviour:
    """A function tied to a node; `state` makes the node's state at the start of a run of the loop.

    Raises
    ------
    RunError
        If the function can't be called with `(state, message, ctx)` or is a generator or async function.
    """

    node: str
    function: Handler
    state: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise RunError(f"the behaviour of {shown(self.node)} is not a function: {self.function!r}")
        call = self.function if inspect.isroutine(self.function) else getattr(self.function, "__call__", None)  # noqa: B004
        kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
        if any(kind(f) for kind in kinds for f in (self.function, call)):
            raise RunError(f"{self.place()} is a generator or async function: a behaviour is a plain function")
        try:
            parameters = inspect.signature(self.function)
        except (TypeError, ValueError):  # some C functions have no signature: they fail when called
            return
        try:
            parameters.bind(None, None, None)
        except TypeError:
            raise RunError(
                f"{self.place()} takes {parameters}: a behaviour takes three values, (state, message, ctx)"
            ) from None
        if self.state is not None and not callable(self.state):
            raise RunError(f"the state of {shown(self.node)} is {self.state!r}: give what makes it, such as state=dict")

    def place(self) -> str:
        """Return the function's name and where it is, for messages."""
        name = getattr(self.function, "__qualname__", None) or repr(self.function)
        code = getattr(self.function, "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}: {name}" if code else str(name)


class Mark(NamedTuple):
    """A function of a behaviours file that says which node it belongs to."""

    node: str
    function: Handler
    state: Callable[[], object] | None


def on(node: str, state: Callable[[], object] | None = None) -> Callable[[Function], Function]:
    """Mark a function of a behaviours file as the behaviour of a node.

    Needed where the node's name is no Python name, or differs from the function's, or has a state.

    Parameters
    ----------
    node
        The node's name in the graph.
    state
        Called without arguments at the start of a run of the loop; makes the `state` that the function is given.

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
        marks.append(Mark(node, function, state))
        return function

    return mark


def unknown_node(name: object, graph: Graph) -> str:
    """Return what is wrong with a name that is no node of the graph."""
    if not isinstance(name, str):
        return f"a node's name is a text, not {shown(repr(name))}"
    near = get_close_matches(name, graph.nodes, 1) if len(graph.nodes) <= SUGGEST_AMONG else []
    return f"the graph has no node {shown(name)!r}" + (f": is it {near[0]!r}?" if near else "")

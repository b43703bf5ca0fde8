"""What a property asks, in the branching-time logic PCTL: the parts that a text of one is read into.

Source: Hansson and Jonsson, Formal Aspects of Computing 6 (1994); Baier and Katoen, Principles of Model Checking
(2008), section 10.2. How it is written: `flowstat.explain.property_text`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

__all__ = [
    "Bound",
    "Chance",
    "Constant",
    "Every",
    "Formula",
    "Label",
    "LongRun",
    "Not",
    "Operator",
    "Path",
    "Property",
    "Reward",
    "Same",
    "Some",
    "Window",
    "asks_time",
    "operators",
]

Comparison = Literal[">=", ">", "<=", "<"]


@dataclass(frozen=True)
class Bound:
    """What an operator's number is held against; `than` is None where the number itself is asked for (`=?`)."""

    compare: Comparison = ">="
    than: Fraction | None = None


@dataclass(frozen=True)
class Constant:
    """True or false, everywhere."""

    value: bool


@dataclass(frozen=True)
class Label:
    """Being at the node of this name, or `init`, `end`, `deadlock`; `position` is where it is written."""

    name: str
    position: int = 0


@dataclass(frozen=True)
class Not:
    """What does not hold."""

    of: Formula


@dataclass(frozen=True)
class Every:
    """All of several hold."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True)
class Some:
    """One of several holds, or more."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True)
class Same:
    """Both hold, or neither."""

    a: Formula
    b: Formula


@dataclass(frozen=True)
class Window:
    """When: between `low` and `high` steps from now (None: however many), or within so many seconds."""

    low: int = 0
    high: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Path:
    """What a run does from here on.

    `X`: the next step is at `b`; `F`: it comes to `b`; `G`: it stays at `b`; `U`: it stays at `a` until it comes to
    `b`; `W`: the same, or it stays at `a` for ever; `R`: it stays at `b` until it has come to both, or for ever.
    """

    kind: Literal["X", "F", "G", "U", "W", "R"]
    a: Formula
    b: Formula
    window: Window = Window()
    position: int = 0


@dataclass(frozen=True)
class Chance:
    """`P`: the chance that a run does something."""

    bound: Bound
    path: Path


@dataclass(frozen=True)
class LongRun:
    """`S`: the share of its steps that a run spends somewhere, in the long run."""

    bound: Bound
    of: Formula


@dataclass(frozen=True)
class Reward:
    """`R`: the expected number of events, or seconds (`time`), until a run comes to a goal."""

    bound: Bound
    of: Literal["events", "time"]
    goal: Formula


Operator = Chance | LongRun | Reward
Formula = Constant | Label | Not | Every | Some | Same | Operator


@dataclass(frozen=True)
class Property:
    """A formula, the text that it is written as, and its name, if it has one."""

    formula: Formula
    text: str
    name: str = ""
    origin: str = "<property>"
    source: str = field(default="", repr=False)
    """The whole text that it was read from, called `origin`: positions are places in it."""

    def __str__(self) -> str:
        return f"{self.name}: {self.text}" if self.name else self.text


def parts_of(formula: Formula) -> tuple[Formula, ...]:
    """Return the formulas that one is directly made of."""
    match formula:
        case Not(of) | LongRun(_, of):
            return (of,)
        case Every(parts) | Some(parts):
            return parts
        case Same(a, b):
            return (a, b)
        case Chance(_, path):
            return (path.a, path.b)
        case Reward(_, _, goal):
            return (goal,)
        case _:
            return ()


def operators(formula: Formula, depth: int = 0) -> Iterator[tuple[Operator, int]]:
    """Yield the operators of a formula, each with how many others it stands in."""
    inside = isinstance(formula, Operator)
    if isinstance(formula, Operator):
        yield formula, depth
    for part in parts_of(formula):
        yield from operators(part, depth + inside)


def asks_time(formula: Formula) -> bool:
    """Return whether a formula asks how long something takes, in seconds."""
    for operator, _ in operators(formula):
        if isinstance(operator, Reward) and operator.of == "time":
            return True
        if isinstance(operator, Chance) and operator.path.window.seconds is not None:
            return True
    return False

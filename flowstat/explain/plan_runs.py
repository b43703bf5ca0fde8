"""Planned runs, as a table and as lines that a run takes as its messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import orjson

from flowstat.read.words import shown
from flowstat.results import Result, Row, counted

__all__ = ["LONGEST", "By", "Plan", "PlannedRun"]

By = Literal["arrows", "pairs", "probable", "random"]

LONGEST = 10_000
"""Runs by chance are cut off after so many events."""

NAMED = 8


@dataclass(frozen=True)
class PlannedRun:
    """One run: the message that starts it, and the walk that is expected of it.

    Attributes
    ----------
    walk
        The nodes of its events, each after the one that it was sent by.
    keys
        With which key each event sends on; None where it sends nothing. Of a chain without a graph, where to.
    parents
        The position of the event that each was sent by; None for the first. Without fan-out it is the one before.
    covers
        How many arrows (or arrows and pairs) it is the first to cover.
    probability
        Of a run to be this walk, by the chain; None for runs that are there to cover something.
    open
        Whether it is cut off at nodes from where no run ends.
    """

    walk: tuple[str, ...]
    keys: tuple[str | None, ...]
    parents: tuple[int | None, ...]
    covers: int = 0
    probability: float | None = None
    error_bound: float = 0.0
    open: bool = False

    @property
    def node(self) -> str:
        """Where it starts."""
        return self.walk[0]

    @property
    def linear(self) -> bool:
        """Whether each event sends one message at most."""
        return all(parent == k - 1 for k, parent in enumerate(self.parents) if parent is not None)

    @property
    def name(self) -> str:
        """The walk as one reads it: branches in brackets."""
        if self.linear:
            return " -> ".join(map(shown, self.walk))
        branches: list[list[int]] = [[] for _ in self.walk]
        for k, parent in enumerate(self.parents):
            if parent is not None:
                branches[parent].append(k)
        said: list[str] = []
        todo: list[str | int] = [0]
        while todo:
            item = todo.pop()
            if isinstance(item, str):
                said.append(item)
                continue
            said.append(shown(self.walk[item]))
            below = branches[item]
            if len(below) == 1:
                todo += [below[0], " -> "]
            elif below:
                parts: list[str | int] = [" -> ["]
                for k, child in enumerate(below):
                    parts += [", ", child] if k else [child]
                todo += reversed([*parts, "]"])
        return "".join(said)

    def record(self) -> dict[str, Any]:
        """Return it as a line of a plan: the message to inject, and beside it what is expected."""
        line: dict[str, Any] = {
            "node": self.node,
            "key": "",
            "body": None,
            "walk": list(self.walk),
            "keys": list(self.keys),
        }
        return line if self.linear else line | {"parents": list(self.parents)}


@dataclass(frozen=True)
class Plan(Result):
    """Runs to be tried, in an order in which the first ones cover most.

    Attributes
    ----------
    runs
        The runs.
    by
        What they are: those that cover `arrows` or `pairs` of arrows, the most `probable`, or `random` ones.
    total
        How many arrows (or arrows and pairs of them) there are to cover.
    uncovered
        What no run can cover, as it is written: the arrows that no run comes to.
    least, least_events
        How few runs do it, proven, and how few events in so many runs; None where that was not found. Of runs that
        cover something.
    events
        How many events they have.
    left_out
        How many probable or random runs are left out, which take arrows that the graph does not have.
    """

    title: ClassVar[str] = "Test plan"
    columns: ClassVar[tuple[str, ...]] = (
        "run",
        "node",
        "length",
        "covers",
        "probability",
        "walk",
        "keys",
        "error_bound",
    )
    beside: ClassVar[tuple[str, ...]] = ("node", "keys", "error_bound")
    runs: tuple[PlannedRun, ...]
    by: By
    total: int
    uncovered: tuple[str, ...] = ()
    least: int | None = None
    least_events: int | None = None
    left_out: int = 0
    more: bool = True
    seed: int | None = None
    fans_out: bool = field(default=False, repr=False)

    @property
    def events(self) -> int:
        """How many events the runs have in all."""
        return sum(len(run.walk) for run in self.runs)

    @property
    def covered(self) -> int:
        """How much is covered."""
        return sum(run.covers for run in self.runs)

    @property
    def error_bound(self) -> float:
        """How far any of the probabilities may be off by rounding."""
        return max((run.error_bound for run in self.runs), default=0.0)

    def rows(self) -> list[Row]:
        """Return one row a run."""
        return [
            {
                "run": k,
                "node": run.node,
                "length": len(run.walk),
                "covers": run.covers,
                "probability": run.probability,
                "walk": run.name,
                "keys": list(run.keys),
                "error_bound": run.error_bound,
            }
            for k, run in enumerate(self.runs, 1)
        ]

    def printed(self) -> tuple[str, ...]:
        """Return the columns that a printed table has: no probability of runs that are there to cover."""
        return tuple(c for c in super().printed() if c != "probability" or self.by == "probable")

    def notes(self) -> tuple[str, ...]:
        """Say what is covered, and what is known of fewer runs."""
        what = "arrows and pairs of arrows" if self.by == "pairs" else "arrows"
        size = f"{counted(len(self.runs), 'run')} of {counted(self.events, 'event')}"
        said = [f"{size}: {self.covered:,} of {self.total:,} {what}."]
        if self.least is not None and self.runs:
            said.append(self._proven(self.least))
        if self.uncovered:
            few = ", ".join(self.uncovered[:NAMED]) + ", ..." * (len(self.uncovered) > NAMED)
            said.append(f"No run comes to {len(self.uncovered):,} of them: {few}.")
        if any(run.open for run in self.runs):
            cut = sum(run.open for run in self.runs)
            said.append(f"{counted(cut, 'run')} cut off where no run ends, or after {LONGEST:,} events.")
        if self.left_out:
            said.append(f"{counted(self.left_out, 'run')} left out: the traces go along arrows that the graph lacks.")
        if self.by == "probable" and not self.more:
            said.append("There are no more runs than these.")
        if self.fans_out:
            said.append(
                "Where a key goes to several nodes, each gets a copy: "
                + (
                    "a run covers all its branches, and counts once."
                    if self.by in ("arrows", "pairs")
                    else "a walk follows one of them, and the other copies end where they arrive."
                )
            )
        return tuple(said)

    def _proven(self, least: int) -> str:
        if least < len(self.runs):
            return f"At least {counted(least, 'run')} are needed, proven; whether so few do is not known."
        said = "Proven: where each event sends with one key, no fewer runs cover these"
        if self.least_events == self.events:
            return f"{said}, and so many runs no fewer events do."
        few = "" if self.least_events is None else f"; so many runs need at least {counted(self.least_events, 'event')}"
        return f"{said}{few}."

    def lines(self) -> Iterator[str]:
        """Yield the plan as JSON Lines: `flowstat run --input` injects each line's message.

        A line has `node`, `key` and `body` of the message, and beside it what is expected: `walk` and `keys`, and with
        fan-out `parents`. In a run without behaviours each message follows its walk.
        """
        for run in self.runs:
            yield orjson.dumps(run.record()).decode() + "\n"

    def injections(self) -> Iterator[tuple[str, str, object]]:
        """Yield the messages for `App.run`, with bodies by which nodes without a behaviour follow the walk."""
        for run in self.runs:
            walk = {"walk": list(run.walk), "keys": list(run.keys), "parents": list(run.parents)}
            yield run.node, "", walk | {"at": None, "body": None}

"""What the event loop counts besides rows, and the result of a run."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from flowstat.read.words import shown
from flowstat.results import Result, Row, counted

__all__ = ["Failure", "RunResult", "Tally"]

KEPT = 1_000
"""How many different dropped (node, key) and failures (node, exception) are told apart; the rest is counted."""

SAID = 10
"""How many of them the sentences name."""


class Failure(NamedTuple):
    """Events of one node that ended with one type of exception."""

    node: str
    exception: str
    events: int
    traceback: str
    """Of the first of them."""


@dataclass(frozen=True)
class RunResult(Result):
    """What a run of the event loop did.

    `events` were handled in `runs` runs. `dropped` counts, by (node, key), the emits that no arrow took,
    and `dropped_others` those beyond the first 1,000 such pairs; `errors` the events that ended with an
    exception, and `errors_others` likewise. If the loop was stopped before its time, `stopped` says why
    and `pending` counts by node, most first, the messages that were never handled. `components` are
    those of the graph, which are not started.
    """

    title: ClassVar[str] = "What was not handled"
    columns: ClassVar[tuple[str, ...]] = ("node", "what", "detail", "messages")

    events: int
    runs: int
    seed: int
    dropped: Mapping[tuple[str, str], int] = field(default_factory=dict)
    dropped_others: int = 0
    errors: tuple[Failure, ...] = ()
    errors_others: int = 0
    pending: Mapping[str, int] = field(default_factory=dict)
    stopped: str | None = None
    interrupted: bool = False
    components: tuple[str, ...] = ()

    def rows(self) -> list[Row]:
        """Return one line for each node and reason why messages were not handled well."""
        lines = [(e.node, "error", e.exception, e.events) for e in self.errors]
        lines += [(node, "dropped", key, n) for (node, key), n in self.dropped.items()]
        lines += [(node, "pending", "", n) for node, n in self.pending.items()]
        return [dict(zip(self.columns, line, strict=True)) for line in lines]

    def to_dict(self) -> dict[str, Any]:
        """Return all of the result as JSON-ready data; `dropped` is a list of objects."""
        dropped = [{"node": node, "key": key, "messages": n} for (node, key), n in self.dropped.items()]
        return {**super().to_dict(), "dropped": dropped}

    def notes(self) -> tuple[str, ...]:
        """Return `sentences`."""
        return tuple(self.sentences())

    def sentences(self) -> list[str]:
        """Return the end-of-run report, a sentence each."""
        said = [f"{counted(self.events, 'event')} in {counted(self.runs, 'run')}, seed {self.seed}."]
        if self.components:
            said.append(
                f"{counted(len(self.components), 'component')} of the graph not started: "
                f"{_listed([shown(c) for c in self.components])}. A node with a component forwards its messages."
            )
        if self.stopped:
            said.append(f"Stopped: {self.stopped}")
        if self.pending:
            waiting = [f"{shown(node)} ({n:,})" for node, n in self.pending.items()]
            total = sum(self.pending.values())
            said.append(f"{counted(total, 'message')} never handled (status pending), waiting at {_listed(waiting)}.")
        failed = sum(e.events for e in self.errors) + self.errors_others
        if failed:
            kinds = [f"{e.exception} at {shown(e.node)} ({e.events:,})" for e in self.errors]
            said.append(f"{counted(failed, 'event')} ended with an exception (status error): {_listed(kinds)}.")
            said.append(
                f"The first {self.errors[0].exception} at {shown(self.errors[0].node)}:\n{self.errors[0].traceback}"
            )
        lost = sum(self.dropped.values()) + self.dropped_others
        if lost:
            kinds = [
                f"{shown(node)} with {f'the key {shown(key)}' if key else 'no key'} ({n:,})"
                for (node, key), n in self.dropped.items()
            ]
            said.append(f"{counted(lost, 'emit')} taken by no arrow (status dropped): {_listed(kinds)}.")
        return said


class Tally:
    """Counts, while the loop goes on, what the result tells; bounded in memory."""

    def __init__(self) -> None:
        self.dropped: dict[tuple[str, str], int] = {}
        self.dropped_others = 0
        self._failures: dict[tuple[str, str], list[Any]] = {}
        self.errors_others = 0

    def drop(self, node: str, key: str) -> None:
        """Count an emit that no arrow takes."""
        if (node, key) in self.dropped or len(self.dropped) < KEPT:
            self.dropped[node, key] = self.dropped.get((node, key), 0) + 1
        else:
            self.dropped_others += 1

    def fail(self, node: str, error: BaseException) -> None:
        """Count an exception of a behaviour; format the first of its kind."""
        at = (node, type(error).__name__)
        if at in self._failures:
            self._failures[at][0] += 1
        elif len(self._failures) < KEPT:
            # Without the loop's own line, which tells the author of the behaviour nothing.
            trace = error.__traceback__.tb_next if error.__traceback__ else None
            text = "".join(traceback.format_exception(type(error), error, trace))
            self._failures[at] = [1, text.rstrip()]
        else:
            self.errors_others += 1

    @property
    def errors(self) -> tuple[Failure, ...]:
        """The failures so far, first one first."""
        return tuple(Failure(node, kind, n, text) for (node, kind), (n, text) in self._failures.items())


def waiting(nodes: Iterable[str]) -> dict[str, int]:
    """Count messages by node, most first; the order of equals is that of the names."""
    return dict(sorted(Counter(nodes).items(), key=lambda item: (-item[1], item[0])))


def _listed(parts: list[str]) -> str:
    more = len(parts) - SAID
    return ", ".join(parts[:SAID]) + (f" and {more:,} more" if more > 0 else "")

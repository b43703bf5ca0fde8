"""What a worker, or a process that injects, has done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from flowstat.read.words import shown
from flowstat.results import Result, Row, counted
from flowstat.run.tally import SAID, Failure

__all__ = ["DeadLetter", "WorkResult"]


class DeadLetter(NamedTuple):
    """A message that was given up: at which node, its id, and why."""

    node: str
    message: str
    why: str


@dataclass(frozen=True)
class WorkResult(Result):
    """What a worker did, and what lies in the graph's dead-letter queue when it ends.

    `events` were handled and recorded, `repeated` messages were recognised as handled before, `restored` says from how
    many events the state of each node with one was brought back, `injected` how many messages were sent from outside.
    `dropped` and `errors` are as those of a `RunResult`, `others` how many of both come beyond the first 1,000 kinds.
    `components` are those of the graph, which are not started.
    `dead` has the first of the `dead_letters` that were given up, by whatever worker.
    """

    title: ClassVar[str] = "What was not handled"
    columns: ClassVar[tuple[str, ...]] = ("node", "what", "detail", "messages")

    worker: str
    events: int = 0
    repeated: int = 0
    injected: int = 0
    restored: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[tuple[str, str], int] = field(default_factory=dict)
    errors: tuple[Failure, ...] = ()
    others: int = 0
    components: tuple[str, ...] = ()
    dead: tuple[DeadLetter, ...] = ()
    dead_letters: int = 0
    interrupted: bool = False

    def rows(self) -> list[Row]:
        """Return one line for each node and reason why messages were not handled well, and for each dead letter."""
        lines: list[tuple[object, ...]] = [(e.node, "error", e.exception, e.events) for e in self.errors]
        lines += [(node, "dropped", key, n) for (node, key), n in self.dropped.items()]
        lines += [(letter.node, "dead letter", f"{letter.message}: {letter.why}", 1) for letter in self.dead]
        return [dict(zip(self.columns, line, strict=True)) for line in lines]

    def to_dict(self) -> dict[str, Any]:
        """Return all of the result as JSON-ready data."""
        dropped = [{"node": node, "key": key, "messages": n} for (node, key), n in self.dropped.items()]
        return {**super().to_dict(), "dropped": dropped, "dead": [letter._asdict() for letter in self.dead]}

    def notes(self) -> tuple[str, ...]:
        """Return `sentences`."""
        return tuple(self.sentences())

    def sentences(self) -> list[str]:
        """Return what was done, a sentence each."""
        said = []
        if self.injected:
            said.append(f"{counted(self.injected, 'message')} injected.")
        if self.events or self.repeated or not self.injected:
            said.append(f"{counted(self.events, 'event')} handled by the worker {shown(self.worker)}.")
        if self.repeated:
            said.append(f"{counted(self.repeated, 'message')} had been handled before, and were recognised.")
        if self.components:
            said.append(
                f"{counted(len(self.components), 'component')} of the graph not started: "
                f"{', '.join(map(shown, self.components[:SAID]))}. A node with a component forwards its messages."
            )
        for node, n in self.restored.items():
            said.append(f"The state of {shown(node)} was brought back from {counted(n, 'event')}.")
        for failure in self.errors[:SAID]:
            said.append(
                f"{counted(failure.events, 'event')} at {shown(failure.node)} ended with an exception (status error). "
                f"The first {failure.exception}:\n{failure.traceback}"
            )
        for (node, key), n in list(self.dropped.items())[:SAID]:
            with_key = f"the key {shown(key)}" if key else "no key"
            said.append(f"{counted(n, 'emit')} of {shown(node)} with {with_key} taken by no arrow (status dropped).")
        more = sum(f.events for f in self.errors[SAID:]) + sum(list(self.dropped.values())[SAID:]) + self.others
        if more:
            said.append(f"{counted(more, 'more event')} with an exception, or emits taken by no arrow.")
        if self.dead_letters:
            said.append(f"{counted(self.dead_letters, 'message')} given up, in the dead-letter queue:")
            said += [f"  at {shown(d.node)}: message {shown(d.message)}: {shown(d.why, 200)}" for d in self.dead[:SAID]]
            if self.dead_letters > SAID:
                said.append(f"  and {self.dead_letters - SAID:,} more")
        if self.interrupted:
            said.append("Interrupted: what was not handled waits at the broker.")
        return said

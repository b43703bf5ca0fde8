"""What is said of flows that are not declared, arrows that were never seen, and messages that no arrow took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flowstat.estimate.flows_seen import Example
from flowstat.results import Result, Row, counted, number

__all__ = [
    "Dropped",
    "DroppedKey",
    "Undeclared",
    "UndeclaredFlow",
    "Unseen",
    "UnseenArrow",
]


@dataclass(frozen=True)
class UndeclaredFlow:
    """Messages that no arrow of the graph allows.

    Attributes
    ----------
    source, target, key
        From where to where; the source `(start)` is what was injected at a node that is not in the graph. The key is
        None where it was not recorded; where it was, and the graph has arrows between the two, none takes that key.
    messages
        How many.
    share
        Of all messages that the source sent.
    examples
        Some of them: the run, and the event that handled the message (or, where `sent` only tells of it, that sent it).
    """

    source: str
    target: str
    key: str | None
    messages: int
    share: float
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Undeclared(Result):
    """Flows that the graph does not declare, the most frequent first."""

    title: ClassVar[str] = "Undeclared: messages along no arrow of the graph"
    columns: ClassVar[tuple[str, ...]] = ("source", "key", "target", "messages", "share", "trace", "span")
    flows: tuple[UndeclaredFlow, ...]

    def rows(self) -> list[Row]:
        """Return one row a flow, with one example; `flows` has more."""
        rows = []
        for flow in self.flows:
            trace, span = flow.examples[0] if flow.examples else (None, None)
            row = {c: getattr(flow, c) for c in self.columns[:5]}
            rows.append(row | {"trace": trace, "span": span})
        return rows

    def verdict(self) -> str:
        """Say how many there are."""
        if not self.flows:
            return "every message that was recorded went along an arrow"
        messages = sum(flow.messages for flow in self.flows)
        return f"{counted(messages, 'message')} went along {counted(len(self.flows), 'undeclared flow')}"

    def notes(self) -> tuple[str, ...]:
        """Say how many there are."""
        return (f"{self.verdict()[0].upper()}{self.verdict()[1:]}.",)


@dataclass(frozen=True)
class UnseenArrow:
    """An arrow that no message was seen along.

    Attributes
    ----------
    source, key, target
        The arrow.
    events
        How many events its source had.
    share_below
        The share of the source's events that send along it is below this, at the stated confidence; 1 without events.
    declared
        The designer's `@` share, if there is one.
    against
        Whether that share is above the bound: the data speak against it.
    """

    source: str
    key: str
    target: str
    events: int
    share_below: float
    declared: float | None
    against: bool


@dataclass(frozen=True)
class Unseen(Result):
    """Declared arrows that were never seen, those of the busiest nodes first."""

    title: ClassVar[str] = "Unseen: declared arrows that no message went along"
    columns: ClassVar[tuple[str, ...]] = ("source", "key", "target", "events", "share_below", "declared", "against")
    arrows: tuple[UnseenArrow, ...]
    level: float
    untold: int = 0
    of: int = 0

    def rows(self) -> list[Row]:
        """Return one row an arrow."""
        return [{c: getattr(arrow, c) for c in self.columns} for arrow in self.arrows]

    def verdict(self) -> str:
        """Say how many there are."""
        return f"never seen: {len(self.arrows):,} of {counted(self.of, 'arrow')}"

    def notes(self) -> tuple[str, ...]:
        """Say what the bound means."""
        said = [f"{self.verdict()[0].upper()}{self.verdict()[1:]}."]
        if self.arrows:
            said.append(
                f"share below: with {number(100 * self.level)}% confidence, for each arrow by itself, a smaller share "
                "of its source's events sends along it; 1 where there were no events."
            )
        if self.untold:
            said.append(
                f"Of {counted(self.untold, 'arrow')} it can't be told: between the same nodes there are others, and "
                "messages without a recorded key."
            )
        return tuple(said)


@dataclass(frozen=True)
class DroppedKey:
    """Messages of a node that no arrow took: their key matches nothing. The key is None where it was not recorded."""

    node: str
    key: str | None
    messages: int
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Dropped(Result):
    """Keys that match nothing, the most frequent first."""

    title: ClassVar[str] = "Dropped: messages whose key no arrow takes"
    columns: ClassVar[tuple[str, ...]] = ("node", "key", "messages", "trace", "span")
    keys: tuple[DroppedKey, ...]

    def rows(self) -> list[Row]:
        """Return one row a node and key, with one example; `keys` has more."""
        rows = []
        for each in self.keys:
            trace, span = each.examples[0] if each.examples else (None, None)
            rows.append({"node": each.node, "key": each.key, "messages": each.messages, "trace": trace, "span": span})
        return rows

    def verdict(self) -> str:
        """Say how many there are."""
        if not self.keys:
            return "no dropped message was recorded"
        return f"{counted(sum(each.messages for each in self.keys), 'message')} went nowhere"

    def notes(self) -> tuple[str, ...]:
        """Say how many there are."""
        return (f"{self.verdict()[0].upper()}{self.verdict()[1:]}.",)

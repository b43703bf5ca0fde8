"""One loop of a program: what it is, how often runs take it, how they leave it, and what it carries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

from flowstat.analyze.cycles import Cycle

__all__ = ["Exit", "Exits", "Loop"]


@dataclass(frozen=True)
class Exit:
    """One way out of a loop: from `source` to `target` (`(end)`: the run stops), and its chance."""

    source: str
    target: str
    probability: float
    error_bound: float = 0.0
    """How far the probability may be off."""


class Exits(Sequence[Exit]):
    """The ways out of a loop, most probable first: a tuple of `Exit`s, made when they are looked at.

    Many nested loops have each the same ways out again and again: as arrays these take little room.
    """

    __slots__ = ("bound", "names", "probability", "source", "target")

    def __init__(self, names: Any, source: Any, target: Any, probability: Any, bound: Any) -> None:
        self.names, self.source, self.target, self.probability, self.bound = names, source, target, probability, bound

    @overload
    def __getitem__(self, k: int) -> Exit: ...

    @overload
    def __getitem__(self, k: slice) -> tuple[Exit, ...]: ...

    def __getitem__(self, k: int | slice) -> Exit | tuple[Exit, ...]:
        if isinstance(k, slice):
            return tuple(self)[k]
        chance, off = float(self.probability[k]), float(self.bound[k])
        return Exit(self.names[self.source[k]], self.names[self.target[k]], chance, off)

    def __iter__(self) -> Iterator[Exit]:
        columns = self.names[self.source], self.names[self.target], self.probability.tolist(), self.bound.tolist()
        return map(Exit, *columns)

    def __len__(self) -> int:
        return len(self.probability)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


@dataclass(frozen=True)
class Loop:
    """One loop of the program.

    Attributes
    ----------
    nodes
        Its nodes, header first.
    kind
        `self`: the node sends to itself; `chain`: it leads back through other nodes.
    header
        The node whose returns are counted as rounds: the entry that most runs come in by, the
        alphabetically first of equals.
    entries
        Nodes where runs come in, most used first; within a class that nothing leaves, in the long run.
    keys
        Topic keys on the arrow of a self-loop.
    depth, parent
        How deep it is nested (0: outermost), and the position of the loop around it, or None.
    reached
        Chance that a run comes to any of its nodes.
    entered
        Chance that a run goes round at least once.
    again
        Chance of another round, at its header.
    rounds
        Mean number of rounds in a run that goes round at all; `inf` if it never leaves.
    rounds_per_arrival
        Mean number of rounds each time the header is arrived at from outside: `again / (1 - again)`.
    exits
        Ways out with their chances, most probable first; they sum to 1, or there are none.
    events
        Expected events per run at its nodes, and `events_per_entry` each time it is entered.
    share
        Share of all events that happen at its nodes, in [0, 1].
    gain, effect
        Spectral radius of the mean number of messages among its nodes: below 1 what is in it `dampens`, above it
        `grows`, at 1 it `keeps`, each proven; else one `can't tell`. None where the shares of nodes that fan out were
        changed, so that how many messages they send is not known.
    period
        Greatest common divisor of the lengths of its cycles: to come back takes a multiple of it.
    irreducible
        Whether it can be come into at other nodes than its header, by the graph.
    time
        Expected time per run, in seconds, from events at its nodes to what follows them; None if latencies are unknown.
    cycles
        The most probable elementary cycles inside, best first; `traversals` are those each time the loop is entered.
    several
        Whether events on the way to it send several messages: chances are then those of one lineage of a
        run, else those of the run.
    """

    nodes: tuple[str, ...]
    kind: Literal["self", "chain"]
    header: str
    entries: tuple[str, ...]
    keys: tuple[str, ...]
    depth: int
    parent: int | None
    reached: float
    entered: float
    again: float
    rounds: float
    rounds_per_arrival: float
    exits: Sequence[Exit]
    events: float
    events_per_entry: float
    share: float
    several: bool = False
    gain: float | None = 0.0
    effect: Literal["dampens", "keeps", "grows", "can't tell"] = "dampens"
    period: int = 1
    irreducible: bool = False
    time: float | None = None
    cycles: tuple[Cycle, ...] = ()
    reached_bound: float = 0.0
    entered_bound: float = 0.0
    again_bound: float = 0.0
    rounds_bound: float = 0.0
    rounds_per_arrival_bound: float = 0.0
    events_bound: float = 0.0
    events_per_entry_bound: float = 0.0
    share_bound: float = 0.0
    gain_bound: float = 0.0
    time_bound: float = 0.0

    def left_to(self) -> list[tuple[str, float]]:
        """Return where it is left to, most probable first, and the chances."""
        targets: dict[str, float] = {}
        for way in self.exits:
            targets[way.target] = targets.get(way.target, 0.0) + way.probability
        if len(targets) == 1:
            return [(next(iter(targets)), 1.0)]
        return sorted(targets.items(), key=lambda item: (-item[1], item[0]))

    @property
    def inner(self) -> str:
        """The most probable cycle inside, as one reads it; empty where none was looked for."""
        return self.cycles[0].name if self.cycles else ""

    @property
    def name(self) -> str:
        """The loop as one reads it: `pay -> pay`, or its header with the other nodes."""
        if self.kind == "self":
            return f"{self.header} -> {self.header}"
        return f"{self.header} -> ... -> {self.header}"

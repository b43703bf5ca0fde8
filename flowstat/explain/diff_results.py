"""What a comparison of two sets of traces finds, as tables: nodes, arrows, and answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

from flowstat.explain.diff_fail import Rule, read_rule
from flowstat.explain.diff_laws import How
from flowstat.explain.diff_sides import AnswerKind
from flowstat.results import LINEAGES, Result, Row, counted

__all__ = ["AnswerChange", "AnswerChanges", "ArrowChange", "ArrowChanges", "Diff", "NodeChange"]

Seen = Literal["both", "new", "gone"]


@dataclass(frozen=True)
class NodeChange:
    """One node (or `(start)`, where runs begin), and whether what its events send has changed.

    Attributes
    ----------
    node
        Its name.
    seen
        On both sides, or only after (`new`) or before (`gone`).
    found
        Whether the change was found at the stated rate: of a node that is new or gone, that of an arrow to it.
    events_before, events_after
        Numbers of its events; of `(start)` those of runs.
    variation
        Total variation between the frequencies of its send patterns, in [0, 1]: the share of events that do otherwise.
        It is more than 0 by chance alone. None where one side has no events.
    p_value, q_value
        Chance to be as far apart if nothing changed, and the rate of false discoveries at which it is found; None
        where nothing can be tested: one side has no events, or all events do the same.
    test
        How the p-value is known, see `flowstat.explain.diff_laws.Tested`.
    moves, effect
        The answer that the node's change moves most (a chance, or events as a share of those before), and by how much:
        the parts of all nodes add up to its change. None where runs are trapped at other nodes than before.
    effect_bound
        How far the effect may be off, for the chains as they are estimated.
    """

    node: str
    seen: Seen
    found: bool
    events_before: int
    events_after: int
    variation: float | None
    p_value: float | None = None
    q_value: float | None = None
    test: How | None = None
    moves: str | None = None
    effect: float | None = None
    effect_bound: float = 0.0


@dataclass(frozen=True)
class ArrowChange:
    """The share of one arrow (of an end, where `target` is `(end)`) before and after.

    `low` and `high` bound the difference at the stated credibility; None where one side has no events of the source.
    `messages_before` and `messages_after` are those sent along it (of the end: events that sent nothing). `p_value` is
    that of how many events send along it, where the node was found; `found` says that it was, among the node's arrows.
    """

    source: str
    key: tuple[str, ...]
    target: str
    seen: Seen
    found: bool
    before: float | None
    after: float | None
    difference: float | None
    low: float | None
    high: float | None
    messages_before: int
    messages_after: int
    declared: bool
    p_value: float | None = None
    q_value: float | None = None


@dataclass(frozen=True)
class AnswerChange:
    """One answer before and after.

    `outcome`: its chance; `events`: mean number in a run; `loop`: chance that a run goes round it; `rounds`: mean of a
    run that does; `gain`: by what factor its messages grow; `flow`: its chance. `difference` is after - before, None
    between infinities; `low` and `high` bound it at the stated credibility, by the delta method: an estimate, None
    where it is not known. `error_bound` is how far the difference may be off, proven, for the chains as estimated.
    """

    kind: AnswerKind
    name: str
    found: bool
    before: float
    after: float
    difference: float | None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    q_value: float | None = None
    error_bound: float = 0.0


@dataclass(frozen=True)
class ArrowChanges(Result):
    """Arrows, those that were found first."""

    title: ClassVar[str] = "What changed: arrows"
    columns: ClassVar[tuple[str, ...]] = (
        "source",
        "key",
        "target",
        "seen",
        "found",
        "before",
        "after",
        "difference",
        "low",
        "high",
        "messages_before",
        "messages_after",
        "declared",
        "p_value",
        "q_value",
    )
    beside: ClassVar[tuple[str, ...]] = ("key", "messages_before", "messages_after", "declared", "p_value")
    arrows: tuple[ArrowChange, ...]
    level: float = 0.95
    left_out: int = 0

    def rows(self) -> list[Row]:
        """Return one row an arrow."""
        return [{c: list(a.key) if c == "key" else getattr(a, c) for c in self.columns} for a in self.arrows]

    def notes(self) -> tuple[str, ...]:
        """Say what the columns are, and what is left out."""
        said = [f"before, after: shares; low and high bound their difference with {self.level:.0%} probability."]
        if self.left_out:
            said.append(f"{counted(self.left_out, 'arrow')} of which no change was found left out.")
        return tuple(said)


@dataclass(frozen=True)
class AnswerChanges(Result):
    """Outcomes, events, loops and flows: of each kind what was found, and what differs most, first."""

    title: ClassVar[str] = "What changed: answers"
    columns: ClassVar[tuple[str, ...]] = (
        "kind",
        "name",
        "found",
        "before",
        "after",
        "difference",
        "low",
        "high",
        "p_value",
        "q_value",
        "error_bound",
    )
    beside: ClassVar[tuple[str, ...]] = ("p_value", "error_bound")
    answers: tuple[AnswerChange, ...]
    level: float = 0.95
    left_out: int = 0
    uncompared: str = ""
    fans_out: bool = False

    @property
    def error_bound(self) -> float:
        """How far any of the differences may be off, proven."""
        return max((a.error_bound for a in self.answers), default=0.0)

    def rows(self) -> list[Row]:
        """Return one row an answer."""
        return [{c: getattr(a, c) for c in self.columns} for a in self.answers]

    def notes(self) -> tuple[str, ...]:
        """Say how sure the differences are, and what is left out."""
        said = [f"low and high bound the difference with {self.level:.0%} probability, by the delta method."]
        if self.uncompared:
            said.append(f"Not compared: {self.uncompared}.")
        if self.left_out:
            said.append(f"{counted(self.left_out, 'answer')} of which no change was found left out.")
        return (*said, LINEAGES) if self.fans_out else tuple(said)


@dataclass(frozen=True)
class Diff(Result):
    """What changed between two sets of traces: its rows are nodes, what matters most first.

    Attributes
    ----------
    nodes, arrows, answers
        What was compared.
    runs, events
        How many, before and after.
    tested
        How many nodes could be tested, `(start)` among them.
    rate
        The rate of false discoveries: where nothing changed at all, anything is `found` no more often than that.
    untested
        How many nodes are not listed, since there is nothing to test: all events do the same, or one side has none.
    """

    title: ClassVar[str] = "What changed: nodes, by what they move"
    columns: ClassVar[tuple[str, ...]] = (
        "node",
        "seen",
        "found",
        "events_before",
        "events_after",
        "variation",
        "p_value",
        "q_value",
        "test",
        "moves",
        "effect",
        "effect_bound",
    )
    beside: ClassVar[tuple[str, ...]] = ("p_value", "test", "effect_bound")
    nodes: tuple[NodeChange, ...]
    arrows: ArrowChanges
    answers: AnswerChanges
    runs: tuple[int, int]
    events: tuple[int, int]
    tested: int
    rate: float
    untested: int = 0
    left_out: int = 0
    unmoved: str = ""

    def rows(self) -> list[Row]:
        """Return one row a node."""
        return [{c: getattr(node, c) for c in self.columns} for node in self.nodes]

    @property
    def found(self) -> bool:
        """Whether any change was found."""
        return any(node.found for node in self.nodes)

    def notes(self) -> tuple[str, ...]:
        """Say what was compared, at which rate."""
        told = [
            f"{counted(runs, 'run')} of {counted(events, 'event')} {when}"
            for runs, events, when in zip(self.runs, self.events, ("before", "after"), strict=True)
        ]
        said = [f"{' and '.join(told)}; {counted(self.tested, 'node')} tested."]
        said.append(
            f"found: at a rate of false discoveries of {self.rate:.3g}; where nothing changed, anything at all is "
            "found no more often than that."
        )
        if any(node.moves for node in self.nodes):
            said.append(
                "moves, effect: the answer that the node's change moves most, and by how much; the effects of all "
                "nodes on an answer add up to its change."
            )
        if self.unmoved:
            said.append(f"What nodes move is not told: {self.unmoved}.")
        if self.untested:
            said.append(
                f"{counted(self.untested, 'node')} not listed: all of their events do the same, or one side has none."
            )
        if self.left_out:
            said.append(f"{counted(self.left_out, 'node')} of which no change was found left out.")
        return tuple(said)

    def failing(self, rules: str | Rule | Iterable[str | Rule]) -> list[str]:
        """Return, as sentences, what changed that some rules forbid; nothing if all is well.

        Parameters
        ----------
        rules
            One or several `KIND` or `KIND:AMOUNT`. `any`: whatever was found. `node`, `share`, `outcome`, `flow`:
            found, and by at least AMOUNT (total variation, or the difference of shares or chances). `events`: mean
            events of a run, found, and by at least that part of those before. `loop`: found, and its chance by
            AMOUNT, or its rounds or gain by that part of those before. `arrow`: new or gone, and found; `new`: nodes or
            arrows that were never seen before, found or not; AMOUNT is then a number of events or messages.

        Raises
        ------
        AnalysisError
            If a rule can't be read.
        """
        from flowstat.explain.diff_words import violations

        given = [rules] if isinstance(rules, (str, Rule)) else list(rules)
        read = [read_rule(rule) if isinstance(rule, str) else rule for rule in given]
        return list(dict.fromkeys(said for rule in read for said in violations(self, rule)))

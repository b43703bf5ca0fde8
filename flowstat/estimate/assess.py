"""Whether what an event sends depends on more than its node: on the step before, the time, the worker, the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import ClassVar, Literal
from zlib import crc32

import numpy as np

from flowstat.estimate.histories import START, Group, Histories
from flowstat.estimate.independence import Dependence, adjusted, independence, stated_rate
from flowstat.estimate.time_slices import SLICES
from flowstat.results import Result, Row, counted, number

__all__ = ["QUESTIONS", "Finding", "Homogeneity", "Memory", "homogeneity", "memory_of"]

Question = Literal["memory", "time", "workers", "files", "variants", "lengths"]

QUESTIONS: tuple[Question, ...] = ("memory", "time", "workers", "files", "variants", "lengths")
"""What is asked of the data. All together raise a false alarm at the stated rate: each has an even part of it."""

FEWEST, MOST = 999, 49_999
"""How many tables are drawn for one p-value, at most."""

MOST_NAMED = 6

NOTHING = "(nothing)"
"""In place of the empty send pattern."""

LAST = f"{SLICES} of {SLICES}, "


@dataclass(frozen=True)
class Finding:
    """What one test says of a node.

    Attributes
    ----------
    node
        Whose events; `(start)`: the runs, by the node they start at.
    events
        How many were compared.
    groups
        How many groups they are in: nodes before, slices of time, workers, files.
    group, sent
        The group and the send pattern that stand out most.
    share, elsewhere
        How often that was sent in the group, and in all others.
    bits
        How much the group tells of what is sent, in bits per event; an estimate.
    statistic, degrees
        Likelihood ratio G and its degrees of freedom.
    p_value
        Chance of this much if nothing depends on the group.
    adjusted
        The same for all nodes and questions together; what is at most the rate is raised.
    method
        `chi-square`, or `Monte Carlo` where events are few.
    raised
        Whether it is taken for true.
    """

    question: Question
    node: str
    events: int
    groups: int
    group: str
    sent: str
    share: float
    elsewhere: float
    bits: float
    statistic: float
    degrees: int
    p_value: float
    adjusted: float
    method: str
    raised: bool


@dataclass(frozen=True)
class Memory(Result):
    """For each node whether what its events send depends on the node before; the surest first."""

    title: ClassVar[str] = "Memory: whether what follows depends on the step before"
    columns: ClassVar[tuple[str, ...]] = (
        *("node", "raised", "events", "groups", "group", "sent", "share", "elsewhere", "bits"),
        *("statistic", "degrees", "p_value", "adjusted", "method"),
    )
    beside: ClassVar[tuple[str, ...]] = ("groups", "statistic", "degrees", "p_value", "method")
    findings: tuple[Finding, ...]
    rate: float
    untested: int = 0
    lost: int = 0

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes where history matters."""
        return tuple(f.node for f in self.findings if f.raised)

    def rows(self) -> list[Row]:
        """Return one row a node that was tested."""
        return [{c: getattr(f, c) for c in self.columns} for f in self.findings]

    def notes(self) -> tuple[str, ...]:
        """Say at which nodes history matters, and what was not tested."""
        said = []
        if self.nodes:
            said.append(f"History matters at {_named(self.nodes)}: what follows there depends on the node before.")
        elif self.findings:
            tested = counted(len(self.findings), "node")
            said.append(f"At {tested} that were tested, no dependence on the node before was found.")
        said += _about(
            self.findings, self.rate, "share: of the events after group that sent this; elsewhere: of all others there."
        )
        if self.untested:
            said.append(
                f"{counted(self.untested, 'node')} had nothing to test: all events are after one, or send the same."
            )
        if self.lost:
            said.append(f"Left out: {counted(self.lost, 'event')} whose sender was not recorded.")
        return tuple(said)


@dataclass(frozen=True)
class Homogeneity(Result):
    """For each node whether what its events send depends on when, by whom, or in which file; the surest first."""

    title: ClassVar[str] = "Homogeneity: whether all parts of the data say the same"
    columns: ClassVar[tuple[str, ...]] = ("question", *Memory.columns)
    beside: ClassVar[tuple[str, ...]] = ("groups", "bits", "statistic", "degrees", "p_value", "method")
    findings: tuple[Finding, ...]
    rate: float
    unknown: tuple[str, ...] = ()

    def rows(self) -> list[Row]:
        """Return one row a node and question that was tested."""
        return [{c: getattr(f, c) for c in self.columns} for f in self.findings]

    def notes(self) -> tuple[str, ...]:
        """Say what depends on what, and what is not known."""
        said = []
        for question in QUESTIONS:
            some = [f.node for f in self.findings if f.question == question and f.raised]
            if some:
                named = _named(f"{node}, where runs begin" if node == START else node for node in some)
                said.append(f"It depends on the {_SINGULAR[question]} what follows at {named}.")
        if any(f.raised and f.sent == NOTHING and f.group.startswith(LAST) for f in self.findings):
            said.append("In the last slice of time that is events that sent nothing: were they cut off? See --cut.")
        if self.findings and not any(f.raised for f in self.findings):
            said.append("No difference between parts of the data was found.")
        said += _about(
            self.findings,
            self.rate,
            "share: of the events in group that sent this; elsewhere: of all others of the node.",
        )
        return (*said, *self.unknown)


_SINGULAR: Mapping[Question, str] = {"time": "time", "workers": "worker", "files": "file"}


def memory_of(histories: Histories, rate: float = 0.05, seed: int = 0) -> Memory:
    """Test for each node whether what its events send depends on the node before.

    Parameters
    ----------
    histories
        From `read_histories`.
    rate
        Chance of any false alarm of all questions together if the model holds, in (0, 1); also the false discovery
        rate among what is raised.
    seed
        Of the tables that are drawn where events are few.

    Raises
    ------
    ChainError
        If the rate is none.

    Notes
    -----
    Likelihood ratio of order 2 against order 1, node by node (Billingsley, Annals of Mathematical Statistics 32
    (1961), section 5), see `independence`; over nodes Benjamini and Hochberg, times the number of questions. With
    fan-out the unit is an event and all that it sends.

    Examples
    --------
    >>> from flowstat.estimate.histories import Event
    >>> kinds = [Event("a", "c", "d"), Event("a", "c", "e"), Event("b", "c", "d"), Event("b", "c", "e")]
    >>> memory_of(Histories(tuple(kinds), np.array([[90], [10], [10], [90]]))).nodes
    ('c',)
    """
    rate = stated_rate(rate)
    tables: dict[str, dict[Cell, int]] = {}
    lost = 0
    for event, n in zip(histories.events, histories.folds.sum(axis=1).tolist(), strict=True):
        cells = tables.setdefault(event.node, {})
        if event.before is None and not event.root:
            lost += n
            continue
        cell = (START if event.before is None else event.before), event.sent
        cells[cell] = cells.get(cell, 0) + n
    found = _tested("memory", tables, rate, seed)
    return Memory(found, rate, len(tables) - len(found), lost)


def homogeneity(histories: Histories, rate: float = 0.05, seed: int = 0) -> Homogeneity:
    """Test for each node whether what its events send depends on the time, the worker or the file.

    Parameters and errors are those of `memory_of`. The groups are slices of time with about as many events each, the
    workers, and the traces that were given one by one; where traces of another format were given together, which of
    their files an event is from is not known.

    Examples
    --------
    >>> homogeneity(Histories((), np.zeros((0, 1), np.int64))).unknown[0]
    'Over time: not known, the traces have no times.'
    """
    rate = stated_rate(rate)
    found: list[Finding] = []
    unknown = []
    asked: tuple[tuple[Question, Mapping[Group, int], str, str], ...] = (
        ("time", histories.times, "Over time", "the traces have no times"),
        ("workers", histories.workers, "Over workers", "the traces do not say which worker handled what"),
        ("files", histories.files, "Over files", "there is one trace only, or its files were read together"),
    )
    for question, groups, where, why in asked:
        tables: dict[str, dict[Cell, int]] = {}
        for (group, node, sent), n in groups.items():
            tables.setdefault(node, {})[group, sent] = n
        if len({group for group, _, _ in groups}) < 2:
            one = question == "workers" and groups
            unknown.append(f"{where}: {'one worker handled all' if one else f'not known, {why}'}.")
            continue
        found += _tested(question, tables, rate, seed)
    moments = {str(k + 1): _moment(k, histories.slices) for k in range(len(histories.slices))}
    named = [replace(f, group=moments[f.group]) if f.question == "time" else f for f in found]
    return Homogeneity(tuple(sorted(named, key=lambda f: f.adjusted)), rate, tuple(unknown))


Cell = tuple[str, str]


def _tested(
    question: Question, tables: Mapping[str, Mapping[Cell, int]], rate: float, seed: int
) -> tuple[Finding, ...]:
    """Return what the tests of one question say, the surest first."""
    draws = int(np.clip(ceil(2 * len(QUESTIONS) * len(tables) / rate), FEWEST, MOST))
    found: list[tuple[str, Dependence, str, str]] = []
    for node, cells in sorted(tables.items()):
        groups, patterns = sorted({group for group, _ in cells}), sorted({sent for _, sent in cells})
        if min(len(groups), len(patterns)) < 2:
            continue
        row, column = {g: k for k, g in enumerate(groups)}, {s: k for k, s in enumerate(patterns)}
        ordered = sorted(cells.items())
        rows = np.array([row[group] for (group, _), _ in ordered], np.int64)
        columns = np.array([column[sent] for (_, sent), _ in ordered], np.int64)
        numbers = np.array([n for _, n in ordered], np.int64)
        random = np.random.default_rng([seed, QUESTIONS.index(question), crc32(node.encode("utf-8", "surrogatepass"))])
        test = independence(rows, columns, numbers, random, draws)
        if test is not None:
            found.append((node, test, groups[test.row], patterns[test.column]))
    values = adjusted(test.p_value for _, test, _, _ in found)
    findings = []
    for (node, test, group, sent), value in zip(found, values, strict=True):
        value = min(1.0, len(QUESTIONS) * value)
        findings.append(
            Finding(
                *(question, node, test.events, test.rows, group, sent or NOTHING, test.share, test.elsewhere),
                *(test.bits, test.statistic, test.degrees, test.p_value, value, test.method, value <= rate),
            )
        )
    return tuple(sorted(findings, key=lambda f: (f.adjusted, f.p_value, -f.bits, f.node)))


def _moment(k: int, slices: tuple[int, ...]) -> str:
    begin = np.datetime_as_string(np.datetime64(slices[k], "ns"), unit="ms")
    return f"{k + 1} of {len(slices)}, from {begin}Z"


def _about(findings: Sequence[Finding], rate: float, columns: str) -> list[str]:
    said = [
        f"If the model holds, all questions together raise a false alarm with {number(100 * rate)}% probability; "
        "adjusted is a p-value for that. " + columns
    ]
    tests = Counter(f.question for f in findings)
    if any(f.method == "Monte Carlo" and len(QUESTIONS) * tests[f.question] > rate * (MOST + 1) for f in findings):
        said.append("Among so many, one node with few events can't stand out by itself.")
    return said


def _named(names: Iterable[str]) -> str:
    some = list(names)
    more = f" and {len(some) - MOST_NAMED:,} more" if len(some) > MOST_NAMED else ""
    return ", ".join(some[:MOST_NAMED]) + more

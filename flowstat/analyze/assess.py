"""Whether the Markov assumption holds, where it does not, and what that does to the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import isinf
from typing import ClassVar

from flowstat.analyze.absorption import Absorption, Outcome, absorption, trap_name
from flowstat.analyze.answer_spread import Spread, spread
from flowstat.analyze.answers import Answer
from flowstat.analyze.fit import Fit, fit_of_lengths, fit_of_variants
from flowstat.analyze.fit_messages import fit_of_messages, scores_of
from flowstat.errors import AnalysisError
from flowstat.estimate.assess import QUESTIONS, Finding, Homogeneity, Memory, homogeneity, memory_of
from flowstat.estimate.assess_orders import Orders, orders
from flowstat.estimate.chain import Chain, estimate
from flowstat.estimate.counts import Counts
from flowstat.estimate.histories import read_histories
from flowstat.estimate.observed import ObservedVariants, observed_variants
from flowstat.estimate.pattern_law import PatternLaw
from flowstat.estimate.remembering import Remembering, split_at
from flowstat.read.graph import Graph
from flowstat.read.traces import Traces
from flowstat.results import LINEAGES, Result, Row, number

__all__ = ["Answered", "Answers", "Assessment", "Verdict", "assess"]


@dataclass(frozen=True)
class Answered:
    """One answer of the chain of order 1, beside that of the chain that is split where history matters.

    `low` and `high`, `split_low` and `split_high` hold it with the stated probability, if the chain is right; the split
    ones are None where nothing is split. `observed` is what complete runs have, whatever the chain; None where there
    is none or some were recorded without their end.
    """

    answer: str
    order_1: float
    low: float | None
    high: float | None
    split: float | None
    split_low: float | None
    split_high: float | None
    observed: float | None
    error_bound: float = 0.0
    split_bound: float | None = None


@dataclass(frozen=True)
class Answers(Result):
    """What history does to the answers: outcomes, most probable first, and expected events."""

    title: ClassVar[str] = "Answers: with and without the step before"
    columns: ClassVar[tuple[str, ...]] = (
        *("answer", "order_1", "low", "high", "split", "split_low", "split_high", "observed"),
        *("error_bound", "split_bound"),
    )
    beside: ClassVar[tuple[str, ...]] = ("error_bound", "split_bound")
    answers: tuple[Answered, ...]
    nodes: tuple[str, ...]
    level: float
    left_out: int = 0
    fans_out: bool = False

    def rows(self) -> list[Row]:
        """Return one row an answer."""
        return [{c: getattr(answer, c) for c in self.columns} for answer in self.answers]

    def notes(self) -> tuple[str, ...]:
        """Say what the columns are."""
        split = f"split: the same, split by the step before at {', '.join(self.nodes)}." if self.nodes else ""
        said = [f"low and high: {number(100 * self.level)}% credible, by the delta method, if the chain is right."]
        said += [split or "No node is split: the answers are those of order 1."]
        if self.left_out:
            said.append(f"{self.left_out:,} rarer outcomes are left out.")
        return (*said, LINEAGES) if self.fans_out else tuple(said)


@dataclass(frozen=True)
class Verdict:
    """What one question came to: how many tests there were, how many were raised, and the surest of them."""

    question: str
    tested: int
    raised: int
    adjusted: float | None
    verdict: str


@dataclass(frozen=True)
class Assessment(Result):
    """Whether the chain is one: a verdict for each question, and what is behind it."""

    title: ClassVar[str] = "Does the Markov assumption hold?"
    columns: ClassVar[tuple[str, ...]] = ("question", "tested", "raised", "adjusted", "verdict")
    verdicts: tuple[Verdict, ...]
    memory: Memory
    homogeneity: Homogeneity
    orders: Orders
    variants: Fit
    lengths: Fit
    answers: Answers
    rate: float
    seed: int

    @property
    def raised(self) -> bool:
        """Whether anything speaks against the chain."""
        return any(verdict.raised for verdict in self.verdicts)

    def rows(self) -> list[Row]:
        """Return one row a question."""
        return [{c: getattr(verdict, c) for c in self.columns} for verdict in self.verdicts]

    def notes(self) -> tuple[str, ...]:
        """Say what the verdicts are worth."""
        said = "Something speaks against it." if self.raised else "Nothing that was tested speaks against it."
        rate = number(100 * self.rate)
        return (
            f"{said} If it holds, there is any of these alarms with {rate}% probability at most; else at most {rate}% "
            "of what is raised for a question is expected to be false.",
        )


def assess(
    traces: Traces,
    graph: Graph | None = None,
    prior: float = 1.0,
    *,
    rate: float = 0.05,
    level: float = 0.95,
    seed: int = 0,
    top: int = 10,
    memory: int | None = None,
    counts: Counts | None = None,
) -> Assessment:
    """Say whether a Markov chain is the right model of traces, where not, and what that does to its answers.

    Asked are: does what an event sends depend on the node before (`memory`)? On the time, the worker, the file? Which
    order of the chain is the best? Are whole runs (`variants`) and their lengths as the chain predicts?

    Parameters
    ----------
    traces
        From `read_traces`, in any format but counts files.
    graph, prior
        As for `estimate`.
    rate
        Chance of any false alarm if the chain holds, in (0, 1).
    level
        Probability of the intervals, in (0, 1).
    seed
        Of what is drawn: the parts that runs are held out in, and tables where events are few.
    top
        How many variants and outcomes; at least 1.
    memory
        Bytes that joins may hold in memory, as for `count`.
    counts
        What `count` says of the same traces, if that is known.

    Returns
    -------
    Assessment
        With a table for each question; what can't be known from these traces is said there.

    Raises
    ------
    TraceError
        If a file can't be read, holds counts, or says something impossible.
    ChainError
        If there is no node at all, or the prior or the rate is none.
    AnalysisError
        If the level or `top` is none.

    Notes
    -----
    See `memory_of` and `homogeneity` for the tests, `orders` for the orders, `fit_of_variants` and `fit_of_lengths`
    (with fan-out `fit_of_messages`) for whole runs, `remembering` for the split chain. A test that finds nothing does
    not prove that there is nothing: few events show little. The traces are read two to four times.

    Examples
    --------
    >>> from flowstat.read.files import parse_graph
    >>> found = assess(Traces(()), parse_graph("order -> pay; retry -> pay"))
    >>> found.raised, found.verdicts[0].verdict
    (False, 'nothing to test')
    """
    if not 0 < level < 1:
        raise AnalysisError(f"a level is between 0 and 1, not {level}")
    histories = read_histories(traces, seed=seed, memory=memory)
    remembered = memory_of(histories, rate, seed)
    parts = homogeneity(histories, rate, seed)
    chain = estimate(histories.counts() if counts is None else counts, graph, prior)
    split = split_at(histories, chain, remembered.nodes)
    observed = observed_variants(traces, memory=memory)
    walks, lengths = fit_of_variants(chain, observed, top), fit_of_lengths(chain, observed)
    again = None
    if split.split:
        again = fit_of_variants(split, observed, top), fit_of_lengths(split, observed)
    if observed.fans_out:
        # The lineages of a run are not drawn one by one: what is tested is runs with all their messages.
        walks, lengths = fit_of_messages(chain, scores_of(PatternLaw(chain), traces, memory), seed)
        if split.split:
            again = fit_of_messages(split, scores_of(PatternLaw(split), traces, memory), seed)
    verdicts = (
        _verdict("memory", remembered.findings, rate, "history matters at", ""),
        *(
            _verdict(question, [f for f in parts.findings if f.question == question], rate, "it changes at", unknown)
            for question, unknown in _unknown(parts)
        ),
        _of_fit(walks, rate, again[0] if again else None),
        _of_fit(lengths, rate, again[1] if again else None),
    )
    answers = _answers(chain, split, observed, top, level)
    return Assessment(verdicts, remembered, parts, orders(histories, split.split), walks, lengths, answers, rate, seed)


def _unknown(parts: Homogeneity) -> list[tuple[str, str]]:
    """Return the questions about parts of the data, each with why it can't be answered, if so."""
    found: list[tuple[str, str]] = []
    for question in QUESTIONS[1:4]:
        why = [said for said in parts.unknown if said.startswith(f"Over {question}")]
        found.append((question, why[0].partition(": ")[2].rstrip(".") if why else ""))
    return found


def _verdict(question: str, findings: Iterable[Finding], rate: float, words: str, unknown: str) -> Verdict:
    some = list(findings)
    raised = [f.node for f in some if f.raised]
    least = min((f.adjusted for f in some), default=None)
    if raised:
        said = f"{words} {', '.join(raised[:6])}" + (f" and {len(raised) - 6:,} more" if len(raised) > 6 else "")
    else:
        said = unknown or ("nothing found" if some else "nothing to test")
    return Verdict(question, len(some), len(raised), least, said)


def _of_fit(fit: Fit, rate: float, again: Fit | None) -> Verdict:
    if fit.p_value is None:
        return Verdict(fit.kind, 0, 0, None, f"not tested: {fit.reason}")
    value = min(1.0, len(QUESTIONS) * fit.p_value)
    raised = value <= rate
    said = "runs are not as the chain predicts" if raised else "nothing found"
    if again is not None and again.p_value is not None:
        said += f"; split, p at most {number(again.p_value)}"
    return Verdict(fit.kind, 1, int(raised), value, said)


def _answers(chain: Chain, split: Remembering, observed: ObservedVariants, top: int, level: float) -> Answers:
    one, other = absorption(chain), absorption(split)
    theirs: dict[tuple[str, frozenset[str]], list[Outcome]] = {}
    for outcome in other.outcomes:
        theirs.setdefault((outcome.kind, frozenset(map(split.node, outcome.nodes))), []).append(outcome)
    known = observed.runs > 0 and not observed.unfinished
    ends: Counter[str] = Counter()
    events = 0.0
    for nodes, n in observed.table.items():
        ends[nodes[-1]] += n  # type: ignore[assignment]
        events += len(nodes) * n
    made = [_events(chain, split, one, other, level, events / observed.runs if known else None)]
    for outcome in one.outcomes[:top]:
        mine = spread(chain, [Answer("chance", outcome.nodes[:1])], chain.start, level)
        same = theirs.get((outcome.kind, frozenset(outcome.nodes)), [])
        again = [Answer("chance", each.nodes[:1]) for each in same]
        beside = (
            (spread(split, again, split.start, level) if again else Spread(0.0, None, None)) if split.split else None
        )
        share = ends[outcome.nodes[0]] / observed.runs if known and outcome.kind == "stop" else None
        what = f"{'stops at' if outcome.kind == 'stop' else 'trapped in'} {trap_name(outcome.nodes)}"
        made.append(_answered(what, mine, beside, share))
    return Answers(tuple(made), split.split, level, max(0, len(one.outcomes) - top), chain.fans_out)


def _events(
    chain: Chain, split: Remembering, one: Absorption, other: Absorption, level: float, share: float | None
) -> Answered:
    asked = [Answer("events")]
    mine = spread(chain, asked, chain.start, level) if not isinf(one.events) else Spread(one.events, None, None)
    beside = None
    if split.split:
        finite = not isinf(other.events)
        beside = spread(split, asked, split.start, level) if finite else Spread(other.events, None, None)
    return _answered("events", mine, beside, share)


def _answered(what: str, mine: Spread, beside: Spread | None, share: float | None) -> Answered:
    one = Answered(what, mine.value, mine.low, mine.high, None, None, None, share, mine.error_bound)
    if beside is None:
        return one
    return replace(
        one, split=beside.value, split_low=beside.low, split_high=beside.high, split_bound=beside.error_bound
    )

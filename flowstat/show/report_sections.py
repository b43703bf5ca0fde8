"""What a report says, part by part: findings first, then the sections that show them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from flowstat.analyze.absorption import Absorption, absorption
from flowstat.analyze.amplification import amplification
from flowstat.analyze.answers import Answer
from flowstat.analyze.cycles import cycles
from flowstat.analyze.flows import Flows, flows
from flowstat.analyze.loops import Loops, loops
from flowstat.analyze.sensitivity import sensitivity
from flowstat.analyze.shares import shares
from flowstat.analyze.timing import timing
from flowstat.analyze.visits import visits
from flowstat.errors import AnalysisError, OutputError
from flowstat.estimate.chain import Chain
from flowstat.explain.sentences import absorption_sentences, flows_sentences, loop_sentence
from flowstat.read.words import visible
from flowstat.results import LINEAGES, Result, cell
from flowstat.show.tables import render

__all__ = ["Given", "Section", "sections_of"]

ROWS = 200
"""A table longer than this is cut in a report, and says so."""

NODES = 2000
"""Of larger chains, what takes a solution a line is left to the commands."""


@dataclass(frozen=True)
class Given:
    """What a report is given beside the chain: results of questions that it does not ask itself.

    `verdicts` are of checks, `model` says whether the Markov assumption holds, `conformance` how the traces keep to
    the graph, `changes` what is other than before.
    """

    verdicts: Sequence[Result] = ()
    model: Sequence[Result] = ()
    conformance: Sequence[Result] = ()
    changes: Sequence[Result] = ()


@dataclass(frozen=True)
class Section:
    """One part of a report: a heading, sentences, a figure and a table, each where there is one."""

    anchor: str
    heading: str
    sentences: tuple[str, ...] = ()
    result: Result | None = None
    figure: str = field(default="", repr=False)
    caption: str = ""
    listed: bool = True
    """Whether it is in the list of sections, and not part of the one before."""

    def head(self) -> list[str]:
        """Return the table's column names as a reader sees them."""
        return [column.replace("_", " ") for column in self.result.printed()] if self.result else []

    def cells(self) -> list[list[str]]:
        """Return the table's cells as text, at most `ROWS` lines."""
        result = self.result
        return [[visible(cell(row[c])) for c in result.printed()] for row in result.rows()[:ROWS]] if result else []

    def numeric(self) -> list[bool]:
        """Return for each column whether it holds numbers."""
        if self.result is None:
            return []
        numbers = self.result.numeric()
        return [column in numbers for column in self.result.printed()]

    def cut(self) -> int:
        """Return how many lines of the table are left out."""
        return max(0, len(self.result.rows()) - ROWS) if self.result else 0

    def notes(self) -> list[str]:
        """Return what stands under the table, but for what was said above it, or of all numbers together."""
        said = (*self.sentences, LINEAGES)
        return [note for note in self.result.notes() if note not in said] if self.result else []

    def markdown(self) -> str:
        """Return the table as Markdown."""
        return render(self.result, "markdown") if self.result else ""


def sections_of(chain: Chain, top: int, given: Given, *, pictures: bool) -> tuple[list[str], list[Section]]:
    """Return the findings, most important first, and the parts that show them.

    Parameters
    ----------
    top
        How many cycles, flows, arrows and outcomes are listed.
    pictures
        Whether figures are drawn.
    """
    found_loops, found_flows, ends = loops(chain), flows(chain, top), absorption(chain)
    told_ends = tuple(said for said in absorption_sentences(ends) if said != LINEAGES)
    told_flow = tuple(flows_sentences(found_flows)[:1])
    told_loops = tuple(loop_sentence(loop, chain.fans_out, found_loops) for loop in found_loops.loops)
    findings = [*told_ends, *_foremost(found_loops, chain), *told_flow]
    sections = [
        *_given("verdicts", "Verdicts", given.verdicts),
        Section("outcomes", "Where runs end", told_ends, ends),
        Section("loops", "Loops", told_loops, found_loops),
        Section("cycles", "Most probable cycles", (), cycles(chain, top)),
        *_storms(chain, findings),
        _flows(found_flows, told_flow, pictures),
        *_timing(chain, top),
        *_hangs_on(chain, ends, top),
        *_given("model", "Where the model fails", given.model),
        *_given("conformance", "Conformance", given.conformance),
        *_given("changes", "What changed", given.changes),
        Section("visits", "How often runs come to each node", (), visits(chain)),
        Section("shares", "Shares, arrow by arrow", (), shares(chain)),
    ]
    return findings, sections


def _given(anchor: str, heading: str, results: Sequence[Result]) -> list[Section]:
    made = []
    for k, result in enumerate(results):
        same = k == 0 or not result.title
        made.append(
            Section(anchor + (f"-{k + 1}" if k else ""), heading if same else result.title, (), result, listed=not k)
        )
    return made


def _foremost(found: Loops, chain: Chain) -> list[str]:
    """Return the outermost loops with the most events, in words."""
    outermost = sorted((loop for loop in found.loops if loop.depth == 0), key=lambda loop: -loop.share)
    if not outermost:
        return ["There is no loop: every run passes each node at most once."]
    return [f"Loop: {loop_sentence(loop, chain.fans_out, found)}" for loop in outermost[:3]]


def _storms(chain: Chain, findings: list[str]) -> list[Section]:
    """Return the part on messages that multiply; where some do, that is the first finding."""
    try:
        found = amplification(chain)
    except AnalysisError as error:
        return [Section("storms", "Storms", (f"{str(error)[:1].upper()}{str(error)[1:]}.",))]
    if found.verdict != "dampens" and any(c.reached and c.verdict != "dampens" for c in found.classes):
        findings.insert(0, " ".join(found.notes()))
    return [
        Section("storms", "Storms: do messages multiply?", (), found),
        Section("storms-arrows", "The arrows that carry the growth", (), found.arrows, listed=False),
    ]


def _flows(found: Flows, told: tuple[str, ...], pictures: bool) -> Section:
    figure = ""
    if pictures and found.flows:
        from flowstat.show.plot_flows import plot_flows

        figure = _drawn(lambda: plot_flows(found).svg)  # type: ignore[attr-defined]
    caption = "Each ribbon is a flow, as wide as it is probable, coloured by where it ends."
    return Section("flows", "Most probable flows", told, found, figure, caption)


def _drawn(make: Callable[[], str]) -> str:
    """Return a picture for a page; none where there is nothing to draw."""
    try:
        text = make()
    except OutputError:
        return ""
    return text[text.index("<svg") :]


def _timing(chain: Chain, top: int) -> list[Section]:
    if chain.counts is None or not chain.counts.latencies:
        return [Section("timing", "Timing", ("The traces have no times: how long runs take is not known.",))]
    try:
        return [Section("timing", "Timing: how long runs take", (), timing(chain, top=top))]
    except AnalysisError as error:
        return [Section("timing", "Timing", (f"How long runs take is not known: {error}.",))]


def _hangs_on(chain: Chain, ends: Absorption, top: int) -> list[Section]:
    """Return what the number of events, and the most probable outcomes, hang on."""
    made: list[Section] = []
    if len(chain.names) > NODES:
        return made
    asked = [Answer("events"), *(Answer("chance", o.nodes[:1]) for o in ends.outcomes[:2] if o.probability < 1)]
    for k, answer in enumerate(asked):
        found = sensitivity(chain, answer, top=top)
        if found.effects:
            what = "the number of events" if k == 0 else f"the outcome {ends.outcomes[k - 1].outcome}"
            made.append(Section(f"hangs-{k + 1}", f"What {what} hangs on", (), found, listed=not made))
    return made

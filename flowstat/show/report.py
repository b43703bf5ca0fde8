"""The report for a design review: one self-contained file, HTML or Markdown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import jinja2

import flowstat
from flowstat.analyze.absorption import absorption
from flowstat.analyze.cycles import cycles
from flowstat.analyze.flows import flows
from flowstat.analyze.loops import loops
from flowstat.analyze.shares import shares
from flowstat.analyze.visits import visits
from flowstat.errors import OutputError
from flowstat.estimate.chain import Chain, Start, start_law
from flowstat.explain.sentences import (
    absorption_sentences,
    data_sentences,
    flows_sentences,
    loop_sentence,
)
from flowstat.read.words import visible
from flowstat.results import Result, cell
from flowstat.show.draw import draw
from flowstat.show.tables import escaped, render

__all__ = ["report"]

ROWS = 200
"""A table longer than this is cut in a report, and says so."""


@dataclass(frozen=True)
class Section:
    """One part of a report: a heading, sentences, and perhaps a table."""

    anchor: str
    heading: str
    sentences: tuple[str, ...] = ()
    result: Result | None = None

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

    def markdown(self) -> str:
        """Return the table as Markdown."""
        return render(self.result, "markdown") if self.result else ""


def report(chain: Chain, path: str | Path, *, title: str | None = None, start: Start = None, top: int = 10) -> Path:
    """Write a report on a chain: findings, the drawn graph, where the data came from, loops, outcomes, flows.

    Parameters
    ----------
    chain
        From `estimate`.
    path
        `.html` (or `.htm`): one file that needs nothing else. `.md`: Markdown, without the drawing.
    title
        Heading; the file's name if not given.
    start
        Where runs start; the chain's start law if not given.
    top
        How many cycles and flows are listed.

    Returns
    -------
    pathlib.Path
        The file that was written. The same input gives the same bytes.

    Raises
    ------
    OutputError
        If the name ends in something else, or can't be written.
    AnalysisError
        If an analysis refuses the chain (see each).

    Examples
    --------
    >>> import tempfile
    >>> from flowstat.estimate.chain import estimate
    >>> from flowstat.estimate.counts import Counts
    >>> from flowstat.read.files import parse_graph
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = report(estimate(Counts(), parse_graph("a/retry -> a; a/ok -> b")), folder + "/a.md")
    ...     made.read_text().splitlines()[0]
    '# a'
    """
    path = Path(path)
    kinds = {".html": "report.html.j2", ".htm": "report.html.j2", ".md": "report.md.j2"}
    if path.suffix.lower() not in kinds:
        raise OutputError(f"a report is written as .html or .md, not {path.suffix or path.name!r}")
    template = kinds[path.suffix.lower()]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("flowstat.show"),
        autoescape=template.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["escaped"] = escaped
    chain = replace(chain, start=start_law(chain, start))
    findings, sections = _sections(chain, top)
    text = environment.get_template(template).render(
        title=title or path.stem,
        version=flowstat.__version__,
        findings=findings,
        data=data_sentences(chain),
        drawing=draw(chain).svg if template.endswith(".html.j2") else "",
        sections=sections,
    )
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"can't write the report {path}: {error.strerror}") from None
    return path


def _sections(chain: Chain, top: int) -> tuple[list[str], list[Section]]:
    """Return the findings, most important first, and the parts that show them."""
    found_loops = loops(chain)
    found_cycles = cycles(chain, top)
    outcomes = absorption(chain)
    found_flows = flows(chain, top)
    told_loops = tuple(loop_sentence(loop, chain.fans_out) for loop in found_loops.loops)
    told_outcomes = tuple(absorption_sentences(outcomes))
    told_flow = tuple(flows_sentences(found_flows)[:1])
    outermost = sorted((loop for loop in found_loops.loops if loop.depth == 0), key=lambda loop: -loop.share)
    findings = [
        *told_outcomes,
        *(f"Loop: {loop_sentence(loop, chain.fans_out)}" for loop in outermost[:3]),
        *told_flow,
    ]
    if not found_loops.loops:
        findings.append("There is no loop: every run passes each node at most once.")
    sections = [
        Section("loops", "Loops", told_loops, found_loops),
        Section("cycles", "Most probable cycles", (), found_cycles),
        Section("outcomes", "Where runs end", told_outcomes, outcomes),
        Section("flows", "Most probable flows", told_flow, found_flows),
        Section("visits", "How often runs come to each node", (), visits(chain)),
        Section("shares", "Shares, arrow by arrow", (), shares(chain)),
    ]
    return findings, sections

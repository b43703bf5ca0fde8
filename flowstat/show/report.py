"""The report for a design review: one self-contained file, HTML, PDF or Markdown."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jinja2

import flowstat
from flowstat.errors import OutputError
from flowstat.estimate.chain import Chain, Start, start_law
from flowstat.explain.sentences import data_sentences
from flowstat.results import Result, counted
from flowstat.show.draw import draw
from flowstat.show.report_sections import Given, Section, sections_of
from flowstat.show.tables import escaped

__all__ = ["report"]

KINDS = {".html": "report.html.j2", ".htm": "report.html.j2", ".md": "report.md.j2", ".pdf": "report.html.j2"}


def report(
    chain: Chain,
    path: str | Path,
    *,
    title: str | None = None,
    start: Start = None,
    top: int = 10,
    sources: Result | None = None,
    verdicts: Sequence[Result] = (),
    model: Sequence[Result] = (),
    conformance: Sequence[Result] = (),
    changes: Sequence[Result] = (),
) -> Path:
    """Write a report on a chain, for a design review.

    Verdicts come first, then findings, the data behind them, the drawn graph, outcomes, loops, storms, likely flows,
    timing, what the answers hang on, where the model fails, conformance, what changed, method and words.

    Parameters
    ----------
    chain
        From `estimate`.
    path
        `.html` (or `.htm`): one file that needs nothing else. `.pdf`: that on paper; it needs weasyprint (`pip install
        'flowstat[pdf]'`). `.md`: Markdown, without the drawings.
    title
        Heading; the file's name if not given.
    start
        Where runs start; the chain's start law if not given.
    top
        How many cycles, flows and arrows are listed.
    sources
        Which files the numbers come from: see `flowstat.show.sources.sources_of`.
    verdicts, model, conformance, changes
        What `check`, `assess`, `conform` and `diff` found: each has a section then.

    Returns
    -------
    pathlib.Path
        The file that was written. The same input gives the same bytes.

    Raises
    ------
    OutputError
        If the name ends in something else, or can't be written, or weasyprint is needed and not installed.
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
    if path.suffix.lower() not in KINDS:
        raise OutputError(f"a report is written as .html, .md or .pdf, not {path.suffix or path.name!r}")
    template = KINDS[path.suffix.lower()]
    pictures = template.endswith(".html.j2")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("flowstat.show"),
        autoescape=pictures,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["escaped"] = escaped
    chain = replace(chain, start=start_law(chain, start))
    given = Given(verdicts, model, conformance, changes)
    findings, sections = sections_of(chain, top, given, pictures=pictures)
    text = environment.get_template(template).render(
        title=title or path.stem,
        version=flowstat.__version__,
        findings=findings,
        data=data_sentences(chain),
        sources=[Section("sources", "Files", (), sources)] if sources is not None else [],
        about=f"{counted(len(chain.names), 'node')}, {counted(chain.P.nnz, 'pair')} with messages between",
        drawing=draw(chain).svg if pictures else "",
        sections=sections,
    )
    try:
        path.write_bytes(_printed(text) if path.suffix.lower() == ".pdf" else text.encode())
    except OSError as error:
        raise OutputError(f"can't write the report {path}: {error.strerror}") from None
    return path


def _printed(page: str) -> bytes:
    """Return a page on paper, as PDF."""
    try:
        from weasyprint import HTML
    except ImportError:
        raise OutputError("a PDF needs weasyprint: pip install 'flowstat[pdf]', or print the .html") from None
    except OSError as error:
        raise OutputError(f"weasyprint lacks a library of the system (Debian: libpango-1.0-0): {error}") from None
    before = os.environ.get("SOURCE_DATE_EPOCH")
    os.environ["SOURCE_DATE_EPOCH"] = before or "0"  # or the fonts inside have the time of day
    try:
        document: bytes = HTML(string=page).write_pdf(pdf_identifier=b"flowstat")
    finally:
        if before is None:
            del os.environ["SOURCE_DATE_EPOCH"]
    return document

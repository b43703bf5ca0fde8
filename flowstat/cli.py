"""The `flowstat` command: each subcommand reads, calls one analysis, and shows its result.

Data goes to standard output, everything said about it to standard error. What a command needs is
imported when it runs, so that `flowstat --help` is instant.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NoReturn, TypeVar

import click

from flowstat.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, FlowstatError

if TYPE_CHECKING:
    from flowstat.estimate.chain import Chain
    from flowstat.estimate.counting import Progress
    from flowstat.estimate.summary import Summary
    from flowstat.read.canonical import TraceWriter
    from flowstat.read.graph import Graph
    from flowstat.read.notices import Problem
    from flowstat.read.traces import Traces
    from flowstat.results import Result
    from flowstat.run.app import App
    from flowstat.run.latencies import VirtualTime
    from flowstat.run.loop import Injection
    from flowstat.run.tally import RunResult
    from flowstat.run.watch import Watch

__all__ = ["main"]

Command = TypeVar("Command", bound=Callable[..., object])

SAY_EVERY = 5.0
"""Seconds between two lines about a run that goes on, where no terminal shows a table."""

FORMATS = ("table", "json", "csv", "markdown")

READING = "flowstat.reading"
"""Where the context keeps how traces are read."""

REMEMBERING = "flowstat.remembering"
"""Where it keeps whether nodes are split by the step before, where that matters."""

FOUND = "flowstat.found"
"""Where it keeps the traces that were found."""

AUTO = "auto"

PLAYED = 3_000_000
"""Events that a report plays to see how unlikely runs are: a second or two of them."""

SURE = "flowstat.sure"
"""Where it keeps how intervals are found."""


def main() -> NoReturn:
    """Run the command line; bad input ends it with a message and exit code 2, never a traceback."""
    try:
        sys.exit(flowstat.main(standalone_mode=False) or 0)
    except click.exceptions.Abort:
        sys.exit(EXIT_INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except FlowstatError as error:
        click.echo(f"flowstat: {error}", err=True)
        sys.exit(EXIT_USAGE)
    except OSError as error:
        # Nothing more can be written, and Python would try so at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if isinstance(error, BrokenPipeError):
            sys.exit(EXIT_OK)  # the reader, such as `head`, has what it wants
        with suppress(OSError):
            click.echo(f"flowstat: can't write the output: {error.strerror or error}", err=True)
        sys.exit(EXIT_USAGE)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="flowstat", prog_name="flowstat")
def flowstat() -> None:
    """Explain an event-driven program: its loops, outcomes and flows.

    A graph file says which messages can flow where, recorded traces (-t) which really did. Without
    traces the designer's @ shares are used, even where none is given.

    \b
    flowstat run app.graph --runs 1000 -o app.parquet   record traces
    flowstat graph -t spans.json -o app.graph           or start from traces you have
    flowstat cycles app.graph -t app.parquet            where are the loops?
    flowstat report app.graph -t app.parquet            all of it, for a review
    """


def _asks(command: Command) -> Command:
    """Add what every question takes: a graph, traces, a prior, a start."""
    for option in (
        click.option("--start", metavar="NODE", help="Start runs at this node, not where the traces do."),
        click.option(
            "--prior",
            type=click.FloatRange(min=0),
            default=1.0,
            show_default=True,
            help="Weight of the prior, in events.",
        ),
        click.option(
            "-t",
            "--traces",
            metavar="TRACE",
            multiple=True,
            help="A trace or counts: file, directory, glob or -; may be repeated.",
        ),
        click.argument("graph"),
    ):
        command = option(command)
    return _reads(command)


def _reads(command: Command) -> Command:
    """Add how traces are read: kept with the context, since every command hands them on as they are."""

    def keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value:
            context.meta.setdefault(READING, {})[parameter.name] = value

    def remember(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> None:
        sizes = [each for each in value if each != AUTO]
        if len(sizes) > 1:
            raise click.UsageError(f"--memory is one size (and {AUTO}), not {' and '.join(sizes)}")
        if sizes:
            context.meta.setdefault(READING, {})["memory"] = sizes[0]
        context.meta[REMEMBERING] = AUTO in value

    columns = {
        "case": "Column of a log's case; of OCEL, the object type.",
        "activity": "Column of a log's activity.",
        "time": "Column of the time.",
        "trace": "Column of a table of spans: the run.",
        "span": "Column of the event's id.",
        "parent": "Column of the parent's id.",
        "name": "Column of the node's name.",
    }
    options = [
        click.option(f"--{name}", metavar="COLUMN", expose_value=False, callback=keep, help=text)
        for name, text in columns.items()
    ]
    options += [
        click.option(
            "--node", metavar="TEMPLATE", expose_value=False, callback=keep, help="A span's node: '{service}.{name}'."
        ),
        click.option(
            "--cut",
            metavar="DURATION",
            expose_value=False,
            callback=keep,
            help="Events this near the last one that sent nothing are pending, not ended: 90s, 5m, 1h.",
        ),
        click.option(
            "--skip-bad", is_flag=True, expose_value=False, callback=keep, help="Skip and count what can't be read."
        ),
        click.option(
            "--memory",
            metavar=f"SIZE|{AUTO}",
            multiple=True,
            expose_value=False,
            callback=remember,
            help="What joins may hold in memory, such as 500MB; the rest goes to disk.  [default: 1GB]  "
            f"{AUTO} (may be given too): the chain remembers the step before, at the nodes where that matters.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _sures(command: Command) -> Command:
    """Add how intervals are found; see `_sure`."""

    def keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        context.meta.setdefault(SURE, {})[parameter.name] = value

    for option in (
        click.option(
            "--draws",
            type=click.IntRange(min=2),
            default=1000,
            show_default=True,
            expose_value=False,
            callback=keep,
            help="Chains to draw, with --intervals sample.",
        ),
        click.option(
            "--level",
            type=click.FloatRange(0, 1, True, True),
            default=0.95,
            show_default=True,
            expose_value=False,
            callback=keep,
            help="Probability that an interval holds its number.",
        ),
        click.option(
            "--intervals",
            type=click.Choice(["delta", "sample", "none"]),
            default="delta",
            show_default=True,
            expose_value=False,
            callback=keep,
            help="By gradients, or by chains drawn from what the traces show.",
        ),
    ):
        command = option(command)
    return command


def _shows(*tables: str) -> Callable[[Command], Command]:
    """Add the format of the answer and, where it has several tables, the choice among them."""

    def add(command: Command) -> Command:
        if tables:
            command = click.option(
                "--show", type=click.Choice(["all", *tables]), default="all", show_default=True, help="Which table."
            )(command)
        return click.option(
            "--format", "format", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print."
        )(command)

    return add


@flowstat.command(epilog="Example: flowstat cycles orders.graph -t orders.parquet --top 5 --by flux")
@_asks
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, help="How many cycles.")
@click.option("--max-length", type=click.IntRange(min=1), help="Longest cycle listed, in nodes.")
@click.option(
    "--by",
    type=click.Choice(["probability", "flux", "events", "time"]),
    default="probability",
    show_default=True,
    help="What cycles are listed by: flux is how often a run goes round one.",
)
@click.option("--through", metavar="NODE", help="Only cycles through this node.")
@click.option(
    "--latency",
    "stated",
    metavar="ARROW=SECONDS",
    multiple=True,
    help="With --by time, where traces have no times: as 'a -> b=0.5'; may be repeated.",
)
@_sures
@_shows("loops", "cycles")
def cycles(
    graph: str,
    traces: tuple[str, ...],
    prior: float,
    start: str | None,
    top: int,
    max_length: int | None,
    by: Literal["probability", "flux", "events", "time"],
    through: str | None,
    stated: tuple[str, ...],
    format: str,
    show: str,
) -> None:
    """List the loops, how runs take and leave them, and the foremost cycles."""
    from flowstat.analyze.arrow_times import read_latencies
    from flowstat.analyze.cycles import cycles as find_cycles
    from flowstat.analyze.loops import loops
    from flowstat.explain.sentences import loop_sentence

    if stated and by != "time":
        raise click.UsageError("--latency is about cycles by time: add --by time")
    chain = _chain(graph, traces, prior, start, latencies=by == "time")
    latencies = read_latencies(chain, stated) if by == "time" else None
    results: dict[str, Result] = {}
    sentences: list[str] = []
    if show in ("all", "loops"):
        with _sure() as sure:
            found = loops(chain, **sure)
        results["loops"] = found
        sentences = [f"{'  ' * loop.depth}{loop_sentence(loop, found.fans_out, found)}" for loop in found.loops]
    if show in ("all", "cycles"):
        results["cycles"] = find_cycles(chain, top, max_length=max_length, by=by, through=through, latencies=latencies)
    if sentences and format == "table":
        click.echo("\n".join(sentences) + "\n")
    _print(results, format)


@flowstat.command(epilog="Example: flowstat circulation app.graph -t app.parquet --of poll")
@_asks
@click.option("--of", "member", metavar="NODE", help="A node of the closed class, where there are several.")
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, help="How many cycles.")
@_shows()
def circulation(
    graph: str, traces: tuple[str, ...], prior: float, start: str | None, member: str | None, top: int, format: str
) -> None:
    """Take the long-run flow of a class that runs never leave apart into cycles."""
    from flowstat.analyze.circulation import circulation as take_apart

    _print({"circulation": take_apart(_chain(graph, traces, prior, start), member, top)}, format)


@flowstat.command(epilog="Example: flowstat absorbing orders.graph -t orders.parquet --show outcomes")
@_asks
@_sures
@_shows("outcomes", "visits", "classes")
def absorbing(graph: str, traces: tuple[str, ...], prior: float, start: str | None, format: str, show: str) -> None:
    """Say where runs end or get stuck, after how many events, and how often they come to each node."""
    from flowstat.analyze.absorption import absorption
    from flowstat.analyze.classes import classes
    from flowstat.analyze.visits import visits

    chain = _chain(graph, traces, prior, start)
    results: dict[str, Result] = {}
    if show in ("all", "outcomes"):
        with _sure() as sure:
            results["outcomes"] = absorption(chain, **sure)
    if show in ("all", "visits"):
        with _sure() as sure:
            results["visits"] = visits(chain, **sure)
    if show in ("all", "classes"):
        results["classes"] = classes(chain)
    _print(results, format)


@flowstat.command(epilog="Example: flowstat flows orders.graph -t orders.parquet --top 5 --variants")
@_asks
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="How many flows.")
@click.option("--variants", "whole", is_flag=True, help="Whole runs with their loops, beside recorded ones.")
@click.option("--timed", is_flag=True, help="With the mean time of each, from the times in the traces.")
@click.option(
    "--latency", "stated", metavar="ARROW=SECONDS", multiple=True, help="As 'a -> b=0.5,0.1': mean and deviation."
)
@_sures
@_shows()
def flows(
    graph: str,
    traces: tuple[str, ...],
    prior: float,
    start: str | None,
    top: int,
    whole: bool,
    timed: bool,
    stated: tuple[str, ...],
    format: str,
) -> None:
    """List the most probable flows: the paths that runs leave when loops are erased."""
    from flowstat.analyze.arrow_times import read_latencies
    from flowstat.analyze.flows import flows as find_flows
    from flowstat.analyze.variants import variants
    from flowstat.estimate.observed import observed_variants

    if whole and (timed or stated):
        raise click.UsageError("--timed and --latency are about flows: --variants has no times")
    chain = _chain(graph, traces, prior, start, latencies=timed)
    if not whole:
        latencies = read_latencies(chain, stated) or None
        with _sure() as sure:
            found = find_flows(chain, top, latencies=latencies, **sure)
        _print({"flows": found}, format)
        return
    observed = None
    if traces:
        if "-" in traces:
            raise click.UsageError("--variants reads traces twice: give a file, not standard input (-)")
        source, memory = _traces(traces)
        if all(file.format != "counts" for file in source.files):
            observed = observed_variants(source, memory=memory)
        else:
            click.echo("counts hold no runs: how often walks were recorded is not known", err=True)
    _print({"variants": variants(chain, top, observed=observed)}, format)


@flowstat.command(epilog="Example: flowstat storms orders.graph -t orders.parquet --show arrows")
@_asks
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, help="How many arrows.")
@click.option(
    "--generations", "horizon", type=click.IntRange(min=0), default=10, show_default=True, help="The last generation."
)
@click.option(
    "--arrow",
    "ways",
    metavar="WAY",
    multiple=True,
    help="The critical setting of this one: 'a -> b', a/key, 'a -> (end)'; may be repeated.  [default: all on loops]",
)
@_shows("classes", "arrows", "messages", "generations", "critical")
def storms(
    graph: str,
    traces: tuple[str, ...],
    prior: float,
    start: str | None,
    top: int,
    horizon: int,
    ways: tuple[str, ...],
    format: str,
    show: str,
) -> None:
    """Say whether fan-out makes messages multiply: where, by which arrows, and at which share of an arrow they would.

    A class of loops whose rho is below 1 dampens its messages, one above 1 multiplies them: a message storm. Without
    traces every event sends one message, and nothing can multiply.
    """
    from flowstat.analyze.amplification import amplification
    from flowstat.analyze.critical import critical
    from flowstat.analyze.generations import generations

    chain = _chain(graph, traces, prior, start, lineages=False)
    results: dict[str, Result] = {}
    if show in ("all", "classes", "arrows", "messages"):
        found = amplification(chain, top=top)
        tables = {"classes": found, "arrows": found.arrows, "messages": found.messages}
        results |= {name: table for name, table in tables.items() if show in ("all", name)}
    if show in ("all", "generations"):
        results["generations"] = generations(chain, horizon=horizon)
    if show in ("all", "critical"):
        results["critical"] = critical(chain, ways or None, top=top)
    _print(results, format)


@flowstat.command(epilog="Example: flowstat reach orders.graph ledger -t orders.parquet")
@_asks
@click.argument("targets", metavar="NODE...", nargs=-1, required=True)
@click.option("--from", "states", metavar="NODE", multiple=True, help="Print the rows of these nodes only.")
@_shows()
def reach(
    graph: str,
    targets: tuple[str, ...],
    traces: tuple[str, ...],
    prior: float,
    start: str | None,
    states: tuple[str, ...],
    format: str,
) -> None:
    """Say how likely some message of a run ever comes to any of some nodes, beside one lineage of it."""
    from flowstat.analyze.reach import reach as find_reach

    chain = _chain(graph, traces, prior, start, lineages=False)
    _print({"reach": _rows_of(find_reach(chain, _states(chain, targets)), _states(chain, states))}, format)


@flowstat.command(epilog="Example: flowstat matrix orders.graph -t orders.parquet --format csv")
@_asks
@click.option(
    "--level", type=click.FloatRange(0, 1, True, True), default=0.95, show_default=True, help="Of the intervals."
)
@_shows()
def matrix(graph: str, traces: tuple[str, ...], prior: float, start: str | None, level: float, format: str) -> None:
    """Print the chain: every share, with its credible interval where traces stand behind it."""
    from flowstat.analyze.shares import shares

    _print({"shares": shares(_chain(graph, traces, prior, start), level)}, format)


@flowstat.command(epilog="Example: flowstat draw orders.graph -t orders.parquet --of flows -o orders.svg")
@_asks
@click.option(
    "--of",
    "what",
    type=click.Choice(["graph", "flows", "coverage", "spectrum", "generations"]),
    default="graph",
    show_default=True,
    help="What to draw.",
)
@click.option("--nodes", type=click.IntRange(min=1), help="How many nodes of a graph have names; the rest is grey.")
@click.option("--top", type=click.IntRange(min=1), help="How many flows or eigenvalues.")
@click.option("--horizon", type=click.IntRange(min=0), help="The last generation.  [default: 20]")
@click.option("-o", "--output", default="-", metavar="FILE", help="A .svg, .png, .pdf or .dot file; - prints SVG.")
def draw(
    graph: str,
    traces: tuple[str, ...],
    prior: float,
    start: str | None,
    what: str,
    nodes: int | None,
    top: int | None,
    horizon: int | None,
    output: str,
) -> None:
    """Draw the graph with its shares, traffic and nested loops; or flows, coverage, eigenvalues, generations.

    The graph is written as .svg, .png or .dot, all else as .svg, .png or .pdf.
    """
    from importlib import import_module

    for option, given, of in (
        ("--nodes", nodes, ("graph",)),
        ("--top", top, ("flows", "coverage", "spectrum")),
        ("--horizon", horizon, ("generations",)),
    ):
        if given is not None and what not in of:
            raise click.UsageError(f"{option} is for --of {' or '.join(of)}")
    _keep(output, graph, *traces)
    chain = _chain(graph, traces, prior, start, lineages=what != "generations")
    options = {"nodes": nodes, "top": top, "horizon": horizon}
    name = "draw" if what == "graph" else f"plot_{what}"
    make = getattr(import_module(f"flowstat.show.{name}"), name)
    drawing = make(chain, **{option: given for option, given in options.items() if given is not None})
    if output == "-":
        click.echo(drawing.svg)
    else:
        drawing.save(output)
        click.echo(f"wrote {output}", err=True)


@flowstat.command(
    epilog="Example: flowstat report orders.graph -t orders.parquet --checks orders.checks -o review.html"
)
@_asks
@click.option(
    "-o", "--output", metavar="FILE", help="Report to write (.html, .pdf, .md); named as the graph by default."
)
@click.option("--title", help="Heading; the graph's name by default.")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="How many cycles and flows.")
@click.option("--checks", "files", metavar="FILE", multiple=True, help="Properties to check, one a line: see `check`.")
@click.option("--before", metavar="TRACE", multiple=True, help="Traces to compare with: what changed since?")
@click.option(
    "--assess/--no-assess", "asks", default=True, show_default=True, help="Ask whether the chain holds; conformance."
)
def report(
    graph: str,
    traces: tuple[str, ...],
    prior: float,
    start: str | None,
    output: str | None,
    title: str | None,
    top: int,
    files: tuple[str, ...],
    before: tuple[str, ...],
    asks: bool,
) -> None:
    """Write a report for a design review: one file, HTML, PDF or Markdown.

    With traces it says, too, whether the Markov assumption holds of them, and how they keep to the graph.
    """
    from flowstat.explain.check import check as find_checks
    from flowstat.explain.property_text import read_properties
    from flowstat.show.report import report as write_report
    from flowstat.show.sources import sources_of

    stem = "report" if graph == "-" else Path(graph).stem
    target = output or f"{stem}.html"
    _keep(target, graph, *traces, *files, *before)
    properties = [found for file in files for found in read_properties(file)]
    if before and not traces:
        raise click.UsageError("--before compares traces with traces: give those of now with -t")
    chain = _chain(graph, traces, prior, start, latencies=True)
    parts: dict[str, Any] = {}
    if properties:
        parts["verdicts"] = (find_checks(chain, properties),)
    source = None
    if traces and "-" not in traces:
        source, summary, more = _about(chain, traces, asks and start is None and not _remembers(), prior, top)
        parts |= more
    else:
        summary = None
    if before and chain.graph is not None:
        parts["changes"] = _changes(chain, before, prior, start, top)
    sources = sources_of(None if graph == "-" else graph, source, summary)
    write_report(chain, target, title=title or stem, top=top, sources=sources, **parts)
    click.echo(f"wrote {target}", err=True)


def _about(
    chain: Chain, traces: tuple[str, ...], asks: bool, prior: float, top: int
) -> tuple[Traces, Summary, dict[str, Any]]:
    """Return traces, what they hold, and what a report says of how the chain and the graph fit them."""
    from flowstat.analyze.assess import assess as find_memory
    from flowstat.estimate.summary import summarise
    from flowstat.explain.conform import conform as find_conformance

    source, memory = _traces(traces)
    with _progress() as progress:
        summary = summarise(source, memory=memory, progress=progress)
    if not asks or chain.graph is None or any(file.format == "counts" for file in source.files):
        return source, summary, {}
    model = find_memory(source, chain.graph, prior, top=top, memory=memory, counts=chain.counts)
    kept = find_conformance(chain, source, top=top, memory=memory, counts=chain.counts, most_events=PLAYED)
    return (
        source,
        summary,
        {
            "model": (model, model.memory, model.orders, model.variants, model.answers),
            "conformance": (kept, kept.undeclared, kept.unseen, kept.dropped, kept.runs),
        },
    )


def _changes(chain: Chain, before: tuple[str, ...], prior: float, start: str | None, top: int) -> tuple[Result, ...]:
    """Return what changed since other traces were recorded."""
    from flowstat.estimate.counting import count as count_traces
    from flowstat.explain.diff import diff as compare

    source, memory = _traces(before)
    with _progress() as progress:
        counts = count_traces(source, chain.graph, memory=memory, progress=progress)
    assert chain.counts is not None
    found = compare(counts, chain.counts, chain.graph, start=start, prior=prior, top=top)
    return found, found.arrows, found.answers


@flowstat.command(epilog="Example: flowstat hitting orders.graph ship -t orders.parquet --before declined")
@_asks
@click.argument("targets", metavar="[NODE]...", nargs=-1)
@click.option("--before", "others", metavar="NODE", multiple=True, help="Which is come to first? May be repeated.")
@click.option("--within", "limit", metavar="STEPS", type=click.IntRange(min=0), help="The chance to be there in time.")
@click.option(
    "--quantile",
    "shares",
    metavar="SHARE",
    type=click.FloatRange(0, 1, True, True),
    multiple=True,
    help="Within how many steps is this share of runs there? May be repeated.",
)
@click.option(
    "--steps", "horizon", metavar="STEPS", type=click.IntRange(min=0), help="The law of the steps, up to so many."
)
@click.option("--from", "states", metavar="NODE", multiple=True, help="Print the rows of these nodes only.")
@_sures
@_shows()
def hitting(
    graph: str,
    targets: tuple[str, ...],
    traces: tuple[str, ...],
    prior: float,
    start: str | None,
    others: tuple[str, ...],
    limit: int | None,
    shares: tuple[float, ...],
    horizon: int | None,
    states: tuple[str, ...],
    format: str,
) -> None:
    """Say whether runs come to any of some nodes, and after how many steps.

    Without nodes it is the end of a run that --within, --quantile and --steps ask for. What is printed is a table for
    each of the questions --before, --within, --quantile and --steps, and for none of them chance, mean and variance.
    """
    from flowstat.analyze.before import before
    from flowstat.analyze.hitting import hitting as find_hitting
    from flowstat.analyze.quantiles import quantiles
    from flowstat.analyze.steps import steps, within

    asked = others or shares or limit is not None or horizon is not None
    if not targets and (others or not asked):
        raise click.UsageError("name the nodes to come to; without, ask for --within, --quantile or --steps of the end")
    if states and (shares or horizon is not None):
        raise click.UsageError("--from picks rows of nodes: --quantile and --steps have none, see --start")
    chain = _chain(graph, traces, prior, start)
    targets, others, states = (_states(chain, names) for names in (targets, others, states))
    goal = targets or None
    results: dict[str, Result] = {}
    if not asked:
        with _sure() as sure:
            results["hitting"] = _rows_of(find_hitting(chain, targets, **sure), states)
    if others:
        results["before"] = _rows_of(before(chain, targets, others), states)
    if limit is not None:
        results["within"] = _rows_of(within(chain, goal, limit), states)
    if shares:
        results["quantiles"] = quantiles(chain, goal, shares)
    if horizon is not None:
        results["steps"] = steps(chain, goal, horizon)
    _print(results, format)


@flowstat.command("classes", epilog="Example: flowstat classes orders.graph -t orders.parquet --show dead")
@_asks
@_shows("classes", "dead", "balance")
def classes_(graph: str, traces: tuple[str, ...], prior: float, start: str | None, format: str, show: str) -> None:
    """Show the structure: communicating classes, dead arrows, and whether closed classes are reversible."""
    from flowstat.analyze.classes import classes
    from flowstat.analyze.dead import dead_arrows
    from flowstat.analyze.reversible import reversible

    chain = _chain(graph, traces, prior, start)
    results: dict[str, Result] = {}
    if show in ("all", "classes"):
        results["classes"] = classes(chain)
    if show in ("all", "dead"):
        results["dead"] = dead_arrows(chain)
    if show in ("all", "balance"):
        results["balance"] = reversible(chain)
    _print(results, format)


@flowstat.command(epilog="Example: flowstat stationary orders.graph -t orders.parquet --restarted --show law")
@_asks
@click.option("--restarted", is_flag=True, help="Let each end start a new run: the shares of all events.")
@click.option("--source", metavar="NODE", help="Passage times from this node of a closed class.")
@click.option("--target", metavar="NODE", help="Passage times to this node of a closed class.")
@click.option(
    "--epsilon",
    type=click.FloatRange(0, 0.5, True, True),
    default=0.25,
    show_default=True,
    help="How near the stationary law is mixed.",
)
@_shows("law", "mixing", "kemeny", "passage")
def stationary(
    graph: str,
    traces: tuple[str, ...],
    prior: float,
    start: str | None,
    restarted: bool,
    source: str | None,
    target: str | None,
    epsilon: float,
    format: str,
    show: str,
) -> None:
    """Say where runs spend their time in the long run, how soon, and how long it takes from node to node.

    The passage times between all nodes are listed with --show passage only; of a class of over 500 nodes those from
    a --source or to a --target.
    """
    from flowstat.analyze.mixing import mixing
    from flowstat.analyze.passage import first_passage, kemeny
    from flowstat.analyze.restart import restart
    from flowstat.analyze.stationary import stationary as find_stationary

    if (source or target) and show not in ("all", "passage"):
        raise click.UsageError(f"--source and --target ask for passage times: leave out --show {show}")
    chain = _chain(graph, traces, prior, start)
    results: dict[str, Result] = {}
    if show in ("all", "law"):
        results["law"] = find_stationary(chain, restarted=restarted)
    if restarted and (show != "law" or source or target):
        chain = restart(chain)
    if show in ("all", "mixing"):
        results["mixing"] = mixing(chain, epsilon)
    if show in ("all", "kemeny"):
        results["kemeny"] = kemeny(chain)
    if show == "passage" or source or target:
        results["passage"] = first_passage(chain, source, target)
    _print(results, format)


@flowstat.command(
    epilog="Examples: flowstat spectrum orders.graph -t orders.parquet --groups 3; "
    "flowstat spectrum orders.graph --between order ship --show flow"
)
@_asks
@click.option(
    "--top", type=click.IntRange(min=1), default=10, show_default=True, help="How many eigenvalues, or paths."
)
@click.option("--groups", type=click.IntRange(min=0), help="So many slow groups; 0: as many as stand out.")
@click.option("--between", nargs=2, metavar="FROM TO", help="What is between two nodes: committors and flow.")
@_shows("eigenvalues", "groups", "committors", "flow")
def spectrum(
    graph: str,
    traces: tuple[str, ...],
    prior: float,
    start: str | None,
    top: int,
    groups: int | None,
    between: tuple[str, str] | None,
    format: str,
    show: str,
) -> None:
    """Say how fast the chain forgets and what it repeats; on demand, where it stays and how it passes.

    --groups finds the groups of nodes in which runs stay for long, --between the ways from one node to another: the
    chance at each node to come there before going back, and the paths that most passages take.
    """
    from flowstat.analyze.committor import committor
    from flowstat.analyze.metastable import metastable
    from flowstat.analyze.reactive import reactive_flow
    from flowstat.analyze.spectrum import spectrum as find_spectrum

    if show in ("committors", "flow") and not between:
        raise click.UsageError(f"--show {show} needs --between: from which node to which?")
    chain = _chain(graph, traces, prior, start)
    results: dict[str, Result] = {}
    if show in ("all", "eigenvalues"):
        results["eigenvalues"] = find_spectrum(chain, top)
    if show == "groups" or (show == "all" and groups is not None):
        results["groups"] = metastable(chain, groups or None)
    if between and show in ("all", "committors"):
        results["committors"] = committor(chain, *between)
    if between and show in ("all", "flow"):
        results["flow"] = reactive_flow(chain, *between, top=top)
    _print(results, format)


@flowstat.command(epilog="Example: flowstat timing orders.graph -t spans.json --prior 0 --quantile 0.99 --within 2.5")
@_asks
@click.option(
    "--latency",
    "stated",
    metavar="'A -> B=SECONDS[,SD]'",
    multiple=True,
    help="State the latency of a pair: mean, standard deviation; '(end)' is a run's last event; may be repeated.",
)
@click.option(
    "--quantile",
    "quantiles",
    type=click.FloatRange(0, 1, True, True),
    multiple=True,
    help="Shares of runs, for their time; may be repeated.  [default: 0.5, 0.9, 0.99]",
)
@click.option(
    "--within",
    type=click.FloatRange(min=0, min_open=True),
    multiple=True,
    metavar="SECONDS",
    help="For the chance to be done in time; may be repeated.",
)
@click.option("--top", type=click.IntRange(min=0), default=10, show_default=True, help="How many outcomes.")
@_sures
@_shows("timing", "durations")
def timing(
    graph: str,
    traces: tuple[str, ...],
    prior: float,
    start: str | None,
    stated: tuple[str, ...],
    quantiles: tuple[float, ...],
    within: tuple[float, ...],
    top: int,
    format: str,
    show: str,
) -> None:
    """Say how long runs take until they end, by outcome, from the recorded times of their events.

    A pair that the graph has and no trace shows needs a --latency, or --prior 0.
    """
    from flowstat.analyze.arrow_times import read_latencies
    from flowstat.analyze.durations import LEVELS, durations
    from flowstat.analyze.timing import timing as find_timing
    from flowstat.errors import AnalysisError

    chain = _chain(graph, traces, prior, start, latencies=True)
    latencies = read_latencies(chain, stated)
    results: dict[str, Result] = {}
    if show in ("all", "timing"):
        with _sure() as sure:
            results["timing"] = find_timing(chain, latencies=latencies, top=top, **sure)
    if show in ("all", "durations"):
        levels = quantiles or (() if within else LEVELS)
        try:
            results["durations"] = durations(
                chain, latencies=latencies, quantiles=levels, within=within, top=min(top, 3)
            )
        except AnalysisError as error:
            # Means can be known of chains that are too large for the law of their times.
            if show != "all" or quantiles or within:
                raise
            click.echo(f"no durations: {error}", err=True)
    _print(results, format)


@flowstat.command(
    "what-if", epilog="Example: flowstat what-if orders.graph -t orders.parquet --change 'payment/retry.*=0.02'"
)
@_asks
@click.option(
    "--change",
    "--what-if",
    "changes",
    metavar="WAY=SHARE",
    multiple=True,
    required=True,
    help="New share: node/key=0.02, 'a -> b=5%', 'a -> (end)=0'; may be repeated.",
)
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="How many numbers of a kind.")
@_shows()
def what_if(
    graph: str,
    traces: tuple[str, ...],
    prior: float,
    start: str | None,
    changes: tuple[str, ...],
    top: int,
    format: str,
) -> None:
    """Say what a change of some shares does to outcomes, events, visits and loops: before and after.

    The other ways of the node keep their proportions.
    """
    from flowstat.analyze.what_if import what_if as compare

    _print({"what_if": compare(_chain(graph, traces, prior, start), changes, top=top)}, format)


@flowstat.command(epilog="Example: flowstat sensitivity orders.graph -t orders.parquet --of chance:declined")
@_asks
@click.option(
    "--of",
    "answer",
    default="events",
    show_default=True,
    metavar="ANSWER",
    help="events, time, chance:NODE, visits:NODE, hit:NODE, steps:NODE, stationary:NODE.",
)
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, help="How many shares.")
@_shows()
def sensitivity(
    graph: str, traces: tuple[str, ...], prior: float, start: str | None, answer: str, top: int, format: str
) -> None:
    """List the shares that an answer depends on most."""
    from dataclasses import replace

    from flowstat.analyze.answers import Answer
    from flowstat.analyze.sensitivity import sensitivity as find_sensitivity

    asked = Answer.parse(answer)
    chain = _chain(graph, traces, prior, start, latencies=asked.kind == "time")
    if asked.kind in ("hit", "steps"):
        asked = replace(asked, nodes=_states(chain, asked.nodes))
    _print({"sensitivity": find_sensitivity(chain, asked, top=top)}, format)


@flowstat.command(epilog="Example: flowstat assess orders.graph -t orders.parquet --show memory")
@_asks
@click.option(
    "--rate",
    type=click.FloatRange(0, 1, True, True),
    default=0.05,
    show_default=True,
    help="Chance of any false alarm if the chain holds.",
)
@click.option(
    "--level", type=click.FloatRange(0, 1, True, True), default=0.95, show_default=True, help="Of the intervals."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all chance.")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="How many runs and outcomes.")
@_shows("verdicts", "memory", "homogeneity", "orders", "variants", "lengths", "answers")
def assess(
    graph: str,
    traces: tuple[str, ...],
    prior: float,
    start: str | None,
    rate: float,
    level: float,
    seed: int,
    top: int,
    format: str,
    show: str,
) -> None:
    """Say whether the Markov assumption holds, at which nodes not, and what that does to the answers.

    Asked are: does what follows depend on the step before, the time, the worker, the file? Which order of the chain is
    best? Are whole runs and their lengths as the chain predicts? With --memory auto every other command splits the
    nodes where history matters.
    """
    from flowstat.analyze.assess import assess as find

    if not traces:
        raise click.UsageError("whether the chain holds is seen in traces: give them with -t")
    if start is not None or _remembers():
        raise click.UsageError(f"what is assessed is the chain of the traces: leave out --start and --memory {AUTO}")
    chain = _chain(graph, traces, prior, None)
    if chain.graph is None:
        raise click.UsageError(f"{graph} is a chain with its chances: give a graph")
    source, memory = _traces(traces)
    found = find(
        source, chain.graph, prior, rate=rate, level=level, seed=seed, top=top, memory=memory, counts=chain.counts
    )
    tables: dict[str, Result] = {
        "verdicts": found,
        "memory": found.memory,
        "homogeneity": found.homogeneity,
        "orders": found.orders,
        "variants": found.variants,
        "lengths": found.lengths,
        "answers": found.answers,
    }
    _print({name: table for name, table in tables.items() if show in ("all", name)}, format)


@flowstat.command(
    epilog="Example: flowstat conform orders.graph -t orders.parquet --show undeclared --fail-on undeclared"
)
@_asks
@click.option(
    "--baseline", metavar="TRACE", multiple=True, help="Traces that runs are held against, not -t themselves."
)
@click.option(
    "--level", type=click.FloatRange(0, 1, True, True), default=0.95, show_default=True, help="Of the bounds of shares."
)
@click.option(
    "--rate",
    type=click.FloatRange(0, 1, True, True),
    default=0.05,
    show_default=True,
    help="How many of the runs told unlikely may be false, as a share.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all chance.")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="How many runs.")
@click.option(
    "--fail-on",
    type=click.Choice(["undeclared", "unseen", "dropped", "runs"]),
    multiple=True,
    help="Exit with 1 if there is any; may be repeated.",
)
@_shows("verdicts", "undeclared", "unseen", "dropped", "runs")
def conform(
    graph: str,
    traces: tuple[str, ...],
    prior: float,
    start: str | None,
    baseline: tuple[str, ...],
    level: float,
    rate: float,
    seed: int,
    top: int,
    fail_on: tuple[str, ...],
    format: str,
    show: str,
) -> None:
    """Say where traces do not keep to the graph: undeclared flows, arrows never seen, dropped keys, unlikely runs.

    How likely runs are is by the chain of the same traces, or of those of a --baseline.
    """
    from flowstat.explain.conform import conform as find

    if not traces:
        raise click.UsageError("what is held against the graph is traces: give them with -t")
    if start is not None:
        raise click.UsageError("runs are held against where the traces start them: leave out --start")
    if [*traces, *baseline].count("-") > 1:
        raise click.UsageError("standard input (-) can be read once only")
    chain = _chain(graph, baseline or traces, prior, None)
    if chain.graph is None:
        raise click.UsageError(f"{graph} is a chain with its chances: give a graph")
    source, memory = _traces(traces)
    found = find(chain, source, level=level, rate=rate, seed=seed, top=top, memory=memory)
    tables: dict[str, Result] = {
        "verdicts": found,
        "undeclared": found.undeclared,
        "unseen": found.unseen,
        "dropped": found.dropped,
        "runs": found.runs,
    }
    _print({name: table for name, table in tables.items() if show in ("all", name)}, format)
    if any(found.found[question] for question in fail_on):
        sys.exit(EXIT_FAILED)


@flowstat.command(
    epilog="Examples: flowstat diff monday/ tuesday/ --graph orders.graph; "
    "flowstat diff main.json branch.json --fail-on outcome:0.02 --fail-on loop"
)
@click.argument("before")
@click.argument("after")
@click.option("--graph", metavar="FILE", help="The program's graph: its keys, declared arrows and @ shares.")
@click.option("--start", metavar="NODE", help="Start runs at this node, not where the traces do.")
@click.option(
    "--prior", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Weight of the prior, in events."
)
@click.option(
    "--rate",
    type=click.FloatRange(0, 1, True, True),
    default=0.05,
    show_default=True,
    help="Of false discoveries; where nothing changed, how often anything is found.",
)
@click.option(
    "--level", type=click.FloatRange(0, 1, True, True), default=0.95, show_default=True, help="Of the intervals."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of tests that draw.")
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, help="How many of a kind.")
@click.option(
    "--fail-on",
    "rules",
    metavar="KIND[:AMOUNT]",
    multiple=True,
    help="End with code 1 where such a change is found: any, node, share, outcome, events, loop, flow, arrow (new or "
    "gone), new (never seen before); AMOUNT as 0.02 or 2%; may be repeated.",
)
@_reads
@_shows("nodes", "arrows", "answers")
def diff(
    before: str,
    after: str,
    graph: str | None,
    start: str | None,
    prior: float,
    rules: tuple[str, ...],
    format: str,
    show: str,
    **options: Any,
) -> None:
    """Say what changed between two sets of traces (or counts): nodes, arrows, outcomes, loops and flows.

    Every node is tested for whether its events send as before; what is found is ranked by what it does to the answers,
    and has intervals. With --fail-on the exit code is 1 if a rule is broken, and each breach is a line on standard
    error: `any` is whatever was found; `node:0.1` a node of whose events 10% do otherwise; `share`, `outcome` and
    `flow` take a difference of shares or chances, `events` a part of the mean number; `loop` a difference of the chance
    to go round it, or a part of its rounds or gain; `arrow` is one that is new or gone, beyond chance, and `new` all
    that was never seen before, were it once: `new:10` were it ten times.
    """
    from flowstat.estimate.counting import count as count_traces
    from flowstat.explain.diff import diff as compare
    from flowstat.explain.diff_fail import read_rule
    from flowstat.explain.diff_words import diff_sentences
    from flowstat.read.files import read_graph

    if [before, after, graph].count("-") > 1:
        raise click.UsageError("standard input (-) can be read once only")
    forbidden = [read_rule(rule) for rule in rules]
    declared = None if graph is None else read_graph(graph)
    counts = []
    for path in (before, after):
        source, memory = _traces((path,))
        with _progress() as progress:
            counts.append(count_traces(source, declared, memory=memory, progress=progress))
        _tell(counts[-1].problems)
    old, new = counts
    found = compare(old, new, declared, start=start, prior=prior, **options)
    if format == "table":
        click.echo("\n".join(diff_sentences(found)) + "\n")
    tables: dict[str, Result] = {"nodes": found, "arrows": found.arrows, "answers": found.answers}
    _print({name: table for name, table in tables.items() if show in ("all", name)}, format)
    breaches = found.failing(forbidden)
    for breach in breaches:
        click.echo(f"fails: {breach}", err=True)
    if breaches:
        sys.exit(EXIT_FAILED)


@flowstat.command(
    epilog="Examples: flowstat plan orders.graph; flowstat plan orders.graph --cover pairs -o plan.jsonl; "
    "flowstat run orders.graph --input plan.jsonl --follow"
)
@_asks
@click.option(
    "--cover",
    type=click.Choice(["arrows", "pairs"]),
    help="The fewest runs that cover every arrow, or every two arrows in a row.  [default: arrows]",
)
@click.option("--probable", type=click.IntRange(min=1), metavar="N", help="The N most probable runs instead.")
@click.option("--random", type=click.IntRange(min=1), metavar="N", help="N runs by chance instead.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of runs by chance.")
@click.option(
    "-o", "--output", metavar="FILE", help="Write the plan as JSON Lines, for `flowstat run --input`; - prints it."
)
@_shows()
def plan(
    graph: str,
    traces: tuple[str, ...],
    prior: float,
    start: str | None,
    cover: Literal["arrows", "pairs"] | None,
    probable: int | None,
    random: int | None,
    seed: int,
    output: str | None,
    format: str,
) -> None:
    """Plan test runs: the fewest that cover every arrow, the most probable ones, or some by chance.

    Each line that is written is a message to inject, and beside it the walk that is expected. Where no behaviour
    decides (a graph without code, or `run --follow`) the run goes just that way. Arrows that no run comes to are named.
    """
    from flowstat.explain.plan import plan as make
    from flowstat.explain.plan_runs import By

    if sum(option is not None for option in (cover, probable, random)) > 1:
        raise click.UsageError("--cover, --probable and --random are plans of their own: choose one")
    by: By = "probable" if probable else "random" if random else cover or "arrows"
    _keep(output or "-", graph, *traces)
    made = make(_chain(graph, traces, prior, None), by, runs=probable or random, start=start, seed=seed)
    if output == "-":
        click.echo("".join(made.lines()), nl=False)
        for note in made.notes():
            click.echo(note, err=True)
        return
    if output:
        _write(output, "".join(made.lines()))
        click.echo(f"wrote {output}", err=True)
    _print({"plan": made}, format)


@flowstat.command(
    epilog="Example: flowstat check orders.graph 'P>=0.8 [ F \"ship\" ]' -t orders.parquet --junit checks.xml"
)
@_asks
@click.argument("properties", metavar="[PROPERTY]...", nargs=-1)
@click.option("-f", "--file", "files", metavar="FILE", multiple=True, help="Properties, one a line; may be repeated.")
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1, True, True),
    default=0.95,
    show_default=True,
    help="How sure a verdict is to be, with traces.",
)
@click.option("--latency", "stated", metavar="ARROW=SECONDS", multiple=True, help="As 'a -> b=0.5,0.1'.")
@click.option("--junit", "report", metavar="FILE", help="Write JUnit XML, for a build server.")
@click.option("--strict", is_flag=True, help="What the data can't tell is a failure.")
@_shows()
def check(
    graph: str,
    properties: tuple[str, ...],
    traces: tuple[str, ...],
    prior: float,
    start: str | None,
    files: tuple[str, ...],
    confidence: float,
    stated: tuple[str, ...],
    report: str | None,
    strict: bool,
    format: str,
) -> int:
    """Check properties of runs, in PCTL as PRISM and Storm write it: does each hold, fail, or can't the data tell?

    \b
    P>=0.99 [ F "shipped" ]          a run comes to shipped
    P>=0.9 [ F<=20 "shipped" ]       within 20 steps (F{"time"}<=2.5: seconds)
    P<0.01 [ !"paid" U "shipped" ]   without having been paid before
    P>=1 [ G !"stuck" ]              never comes to stuck
    R{"events"}<=12 [ F "end" ]      expected events (or "time") until it ends
    S<0.2 [ "idle" ]                 share of all steps in the long run
    P=? [ F "declined" ]             just the number

    A file has one property a line, with a name if you like (soon: P>=0.9 [ ... ]), and # comments. The exit code is 1
    if a property fails, or with --strict can't be told; else 0.
    """
    from flowstat.analyze.arrow_times import read_latencies
    from flowstat.explain.check import check as find_checks
    from flowstat.explain.property import asks_time
    from flowstat.explain.property_text import parse_property, read_properties
    from flowstat.show.junit import write_junit

    asked = [parse_property(text) for text in properties]
    asked += [found for file in files for found in read_properties(file)]
    if not asked:
        raise click.UsageError("give a property such as 'P>=0.99 [ F \"shipped\" ]', or a file of them with -f")
    if report is not None:
        _keep(report, graph, *traces, *files)
    timed = any(asks_time(one.formula) for one in asked)
    if stated and not timed:
        raise click.UsageError('--latency is about times: no property asks for R{"time"} or a window of time')
    chain = _chain(graph, traces, prior, start, latencies=timed)
    latencies = read_latencies(chain, stated) or None
    found = find_checks(chain, asked, confidence=confidence, latencies=latencies)
    _print({"checks": found}, format)
    if report is not None:
        write_junit(found, report, "flowstat" if graph == "-" else Path(graph).stem, strict=strict)
    click.echo(found.summary, err=True)
    return EXIT_FAILED if found.holds is False or (strict and found.holds is None) else EXIT_OK


@flowstat.command(epilog="Example: flowstat sample orders.graph -t orders.parquet --runs 1000000 --seed 7")
@_asks
@click.option("--runs", type=click.IntRange(min=1), default=100_000, show_default=True, help="How many.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all chance.")
@click.option(
    "--max-length", type=click.IntRange(min=1), default=100_000, show_default=True, help="Events of a run at most."
)
@click.option(
    "--max-events", type=click.IntRange(min=1), default=1_000_000_000, show_default=True, help="In all, about."
)
@_shows()
def sample(
    graph: str,
    traces: tuple[str, ...],
    prior: float,
    start: str | None,
    runs: int,
    seed: int,
    max_length: int,
    max_events: int,
    format: str,
) -> None:
    """Play runs of the chain by chance, and count how they end: a check on `flowstat absorbing`.

    Nothing is recorded (`flowstat simulate` records a trace). Runs that were cut off are told as unfinished.
    """
    from flowstat.analyze.simulation import simulate as play

    chain = _chain(graph, traces, prior, start)
    _print({"outcomes": play(chain, runs, seed, max_length=max_length, max_events=max_events)}, format)


TRACE_FORMATS = ("parquet", "jsonl", "otlp", "jaeger", "xes")
CHAIN_FORMATS = ("drn", "tra")


@flowstat.command(
    epilog="Examples: flowstat convert orders.graph -o orders.dot; flowstat convert -t spans.json -o spans.parquet"
)
@click.argument("graph", required=False)
@click.option("-t", "--traces", metavar="TRACE", multiple=True, help="Traces to convert, or to estimate a chain from.")
@click.option("-o", "--output", default="-", metavar="FILE", help="Where to; - prints a graph.")
@click.option(
    "--to", type=click.Choice(["graph", "dot", *TRACE_FORMATS, *CHAIN_FORMATS]), help="By default from the name."
)
@click.option("--prior", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Of a chain, in events.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@_reads
def convert(
    graph: str | None, traces: tuple[str, ...], output: str, to: str | None, prior: float, overwrite: bool
) -> None:
    """Rewrite a graph (native syntax, DOT) or traces in another format, or both as a chain for a model checker.

    Traces in any format that can be read become canonical Parquet (or JSON Lines), and canonical ones OTLP/JSON,
    Jaeger JSON or XES: --to, or the name: .parquet, .jsonl, .otlp.json, .jaeger.json, .xes, .xes.gz. With --cut, the
    events that may have been cut off are written as pending. A graph, with traces or its @ shares alone, becomes a
    chain: .drn for Storm, .tra (with .lab beside it) for PRISM. Both are read in place of a graph by every question.
    """
    if to in CHAIN_FORMATS or (not to and Path(output).suffix.lower().removeprefix(".") in CHAIN_FORMATS):
        _convert_chain(graph, traces, output, to, overwrite, prior)
        return
    if (graph is None) == (not traces):
        raise click.UsageError("give a graph, or traces with -t, and not both (both make a chain: .drn, .tra)")
    if click.get_current_context().get_parameter_source("prior") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--prior is of a chain: name the output .drn or .tra")
    if graph is not None:
        if to in TRACE_FORMATS:
            raise click.UsageError(f"a graph is written as graph or dot, not {to}")
        idle = click.get_current_context().meta.get(READING)
        if idle:
            raise click.UsageError(f"--{next(iter(idle)).replace('_', '-')} says how traces are read, and not a graph")
        _convert_graph(graph, output, to, overwrite)
    else:
        if to in ("graph", "dot"):
            raise click.UsageError(f"traces are written as {', '.join(TRACE_FORMATS)}, not {to}")
        if output == "-":
            raise click.UsageError("name the trace to write with -o")
        _convert_traces(traces, output, to, overwrite)
    if output != "-":
        click.echo(f"wrote {output}", err=True)


def _convert_graph(graph: str, output: str, to: str | None, overwrite: bool) -> None:
    from flowstat.errors import OutputError
    from flowstat.read.files import format_graph, read_graph

    dot = to == "dot" or (not to and Path(output).suffix.lower() in (".dot", ".gv"))
    text = format_graph(read_graph(graph), "dot" if dot else "graph")
    if output == "-":
        click.echo(text, nl=False)
        return
    _keep(output, graph)
    if Path(output).exists() and not overwrite:
        raise OutputError(f"{output} is there already: choose another name, or --overwrite")
    _write(output, text)


def _convert_chain(
    graph: str | None, traces: tuple[str, ...], output: str, to: str | None, overwrite: bool, prior: float
) -> None:
    from flowstat.estimate.chain_files import write_chain

    if graph is None:
        raise click.UsageError("a chain is of a graph: name it, or make one with `flowstat graph -t ...`")
    if output == "-":
        raise click.UsageError("name the file to write with -o")
    if to and Path(output).suffix.lower() != f".{to}":
        raise click.UsageError(f"name the file .{to}: {output} is another format")
    _keep(output, graph, *traces)
    write_chain(_chain(graph, traces, prior, None), output, overwrite=overwrite)
    beside = f" and {Path(output).with_suffix('.lab')}" if output.lower().endswith(".tra") else ""
    click.echo(f"wrote {output}{beside}", err=True)


def _convert_traces(traces: tuple[str, ...], output: str, to: str | None, overwrite: bool) -> None:
    from contextlib import closing
    from itertools import chain

    from flowstat.read.notices import Notices
    from flowstat.read.resolve import canonical_batches
    from flowstat.read.writers import open_trace_writer

    source, memory = _traces(traces)
    _keep(
        output, *(name for file in source.files for name in file.origins), *(p for f in source.files for p in f.parts)
    )
    if len(source.files) > 1:
        names = ", ".join(file.origin for file in source.files[:3])
        raise click.UsageError(
            f"these are {len(source.files)} traces whose ids are their own ({names}...): convert them one by one"
        )
    (file,) = source.files
    rows = 0
    with _progress() as progress:
        total = sum(part.stat().st_size for part in file.parts)
        read = [0]

        def advance(n: int) -> None:
            read[0] += n
            progress("converting", read[0], total, rows)

        notices = Notices(file.mapping.skip_bad, advance)
        with closing(canonical_batches(file, notices, memory)) as batches:
            # The first rows show whether there is anything to write: nothing is begun, or removed, before.
            first = next(batches, None)
            with open_trace_writer(output, to, overwrite=overwrite) as writer:
                for batch in chain([] if first is None else [first], batches):
                    writer.write(batch)
                    rows += len(batch)
                    progress("converting", read[0], total, rows)
    _tell(notices.problems)
    click.echo(f"{rows:,} rows", err=True)


def _tell(problems: Iterable[Problem]) -> None:
    for problem in problems:
        click.echo(f"{problem.number:,} {problem.what} (such as {problem.example})", err=True)


def _write(output: str, text: str) -> None:
    from flowstat.errors import OutputError

    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"can't write {output}: {error.strerror}") from None


@flowstat.command("traces", epilog="Example: flowstat traces orders.parquet spans/*.json")
@click.argument("traces", nargs=-1, required=True)
@_reads
@_shows("files", "problems")
def traces_(traces: tuple[str, ...], format: str, show: str) -> None:
    """Say what traces hold: runs, events, nodes, period, and all that is odd about them."""
    from flowstat.estimate.summary import summarise

    source, memory = _traces(traces)
    with _progress() as progress:
        found = summarise(source, memory=memory, progress=progress)
    results: dict[str, Result] = {}
    if show in ("all", "files"):
        results["files"] = found.files
    if show in ("all", "problems"):
        results["problems"] = found.problems
    _print(results, format)


@flowstat.command(
    epilog="Examples: flowstat count orders.parquet -o orders.json; "
    "flowstat count --engine postgres://host/db --table spans -o counts.json"
)
@click.argument("traces", nargs=-1)
@click.option("--engine", metavar="URL", help="Count where the data live: duckdb:///, postgres://, spark://, ...")
@click.option("--table", metavar="NAME", help="Table (or path) there that holds the traces.")
@click.option("-o", "--output", default="-", metavar="FILE", help="Counts file to write; - prints it.")
@click.option("--latencies", is_flag=True, help="Sum up the latencies of every pair of nodes too.")
@_reads
def count(traces: tuple[str, ...], engine: str | None, table: str | None, output: str, latencies: bool) -> None:
    """Count traces; every analysis takes the counts in their place (-t counts.json).

    An --engine gives the same counts, but no latencies, and span links only where its column `links` is a list of
    structs. Runs that might have a cycle of parents are looked at here, up to 10 million events of them. What was not
    counted or not looked at is said.
    """
    from flowstat.estimate.counts_file import format_counts, write_counts

    if engine is None:
        from flowstat.estimate.counting import count as count_traces

        if not traces:
            raise click.UsageError("name the traces to count, or --engine and --table")
        if table:
            raise click.UsageError("--table needs --engine: which engine holds the table?")
        source, memory = _traces(traces)
        _keep(output, *(name for file in source.files for name in file.origins))
        with _progress() as progress:
            counts = count_traces(source, latencies=latencies, memory=memory, progress=progress)
    else:
        from flowstat.estimate.engine import count_on

        if traces or not table:
            raise click.UsageError("--engine counts one --table there, and no files")
        counts = count_on(engine, table, latencies=latencies, memory=_memory(), **_reading())
    _tell(counts.problems)
    events = sum(counts.events.values())
    click.echo(f"{events:,} events in {counts.runs:,} runs at {len(counts.events):,} nodes", err=True)
    if output == "-":
        click.echo(format_counts(counts), nl=False)
    else:
        write_counts(counts, output)
        click.echo(f"wrote {output}", err=True)


@flowstat.command(epilog="Example: flowstat merge monday.json tuesday.json -o week.json")
@click.argument("counts", nargs=-1, required=True)
@click.option("-o", "--output", default="-", metavar="FILE", help="Where to; - prints it.")
def merge(counts: tuple[str, ...], output: str) -> None:
    """Add up counts files, of other days or other machines: files, directories, globs or -."""
    from flowstat.estimate.counts_file import add_counts, format_counts, write_counts

    source, _ = _traces(counts)
    _keep(output, *(name for file in source.files for name in file.origins))
    total = add_counts(source.files)
    if output == "-":
        click.echo(format_counts(total), nl=False)
    else:
        write_counts(total, output)
        click.echo(f"wrote {output}", err=True)


@flowstat.command("graph", epilog="Example: flowstat graph -t spans.json --min-share 0.01 -o app.graph")
@click.option(
    "-t", "--traces", metavar="TRACE", multiple=True, required=True, help="Traces or counts; may be repeated."
)
@click.option(
    "--min-share", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Least share of an arrow."
)
@click.option(
    "--min-count", type=click.IntRange(min=1), default=1, show_default=True, help="Least messages of an arrow."
)
@click.option("-o", "--output", default="-", metavar="FILE", help="Where to; - prints it.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@_reads
def graph_(traces: tuple[str, ...], min_share: float, min_count: int, output: str, overwrite: bool) -> None:
    """Write the graph that the traces show, with the shares of its arrows, ready to be edited."""
    from flowstat.errors import OutputError
    from flowstat.estimate.counting import count as count_traces
    from flowstat.estimate.discover import discover, format_discovered

    source, memory = _traces(traces)
    with _progress() as progress:
        counts = count_traces(source, memory=memory, progress=progress)
    _tell(counts.problems)
    text = format_discovered(discover(counts, min_share, min_count), counts, min_share, min_count)
    if output == "-":
        click.echo(text, nl=False)
        return
    _keep(output, *(name for file in source.files for name in file.origins))
    if Path(output).exists() and not overwrite:
        raise OutputError(f"{output} is there already: choose another name, or --overwrite")
    _write(output, text)
    click.echo(f"wrote {output}", err=True)


def _reading() -> dict[str, Any]:
    """Return how traces are to be read, as `read_traces` takes it."""
    options = click.get_current_context().meta.get(READING, {})
    return {name: value for name, value in options.items() if name != "memory"}


def _traces(paths: tuple[str, ...]) -> tuple[Traces, int | None]:
    """Find traces as the options say, and how much memory their counting may take."""
    from flowstat.read.traces import read_traces

    if paths.count("-") > 1:
        raise click.UsageError("standard input (-) can be read once only")
    memory = _memory()
    # Standard input can't be read again: what stands in for it can.
    found = click.get_current_context().meta.setdefault(FOUND, {})
    if paths not in found:
        found[paths] = read_traces(*paths, **_reading())
    return found[paths], memory


def _memory() -> int | None:
    """Return the bytes that counting may hold, if an option says how many."""
    from flowstat.read.database import size

    if _remembers() and "prior" not in click.get_current_context().params:
        raise click.UsageError(f"--memory {AUTO} is about a chain, and this makes none: give a size, such as 500MB")
    memory = click.get_current_context().meta.get(READING, {}).get("memory")
    return size(memory) if memory else None


def _remembers() -> bool:
    """Return whether nodes are to be split by the step before."""
    return bool(click.get_current_context().meta.get(REMEMBERING))


@contextmanager
def _sure() -> Iterator[dict[str, Any]]:
    """Return how an analysis is asked for intervals; on a terminal the chains that are drawn are counted."""
    from flowstat.analyze.interval import Sampling

    asked = click.get_current_context().meta[SURE]
    if asked["intervals"] != "sample":
        yield {"intervals": None if asked["intervals"] == "none" else "delta", "level": asked["level"]}
        return
    hidden = not sys.stderr.isatty()
    with click.progressbar(length=asked["draws"], label="drawing chains", file=sys.stderr, hidden=hidden) as bar:
        yield {"intervals": Sampling(asked["draws"], tick=lambda: bar.update(1)), "level": asked["level"]}


@contextmanager
def _progress() -> Iterator[Progress]:
    """Show on a terminal how far the reading is, with its rate and the time that remains."""
    if not sys.stderr.isatty():
        yield lambda stage, done, total, events: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%  {task.fields[events]}"),
        TimeRemainingColumn(),
    )
    from time import monotonic

    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None, events="")
        began = monotonic()

        def show(stage: str, done: int, total: int, events: int) -> None:
            rate = events / max(monotonic() - began, 1e-3)
            known = done if stage == "reading" or stage == "converting" else None
            text = f"{events:,} events, {rate:,.0f}/s" if events else ""
            bar.update(task, description=stage, total=total or None, completed=known, events=text)

        yield show


_behaves = click.option(
    "--behaviours", metavar="FILE", help="Python file with the behaviours; by default the one beside the graph."
)


def _records(command: Command) -> Command:
    """Add what a recorded run takes."""
    for option in (
        click.option("--overwrite", is_flag=True, help="Replace the trace that is there."),
        click.option(
            "--max-queue", type=click.IntRange(min=1), default=100_000, show_default=True, help="Waiting messages."
        ),
        click.option("--max-events", type=click.IntRange(min=1), default=10_000_000, show_default=True, help="In all."),
        click.option(
            "--clock",
            type=click.Choice(["none", "wall", "virtual"]),
            default="none",
            show_default=True,
            help="Times to record: real ones, or virtual ones, which jump from event to event. But for real ones, the "
            "same seed gives the same bytes.",
        ),
        click.option(
            "--latency",
            "delays",
            metavar="[ARROW=]SECONDS",
            multiple=True,
            help="With --clock virtual, how long messages are under way: 'a -> b=0.5,0.1' (mean and deviation), or "
            "0.5,0.1 for all; may be repeated.",
        ),
        click.option(
            "--latencies",
            "recorded",
            metavar="TRACE",
            help="With --clock virtual: as long as in this trace (or these counts), drawn pair by pair.",
        ),
        click.option("--every", metavar="SECONDS", help="With --clock virtual, from one run to the next."),
        click.option(
            "-o", "--output", metavar="TRACE", help="Trace to write (.parquet, .jsonl); named as the graph by default."
        ),
        click.option(
            "--otlp",
            metavar="URL",
            help="Send events as spans to a collector too, such as http://localhost:4318 (OTLP over HTTP).",
        ),
        click.option("--seed", type=int, default=0, show_default=True, help="Of all chance."),
        click.option("--start", "starts", metavar="NODE", multiple=True, help="Where to inject; may be repeated."),
        click.option("--runs", type=click.IntRange(min=0), default=1000, show_default=True, help="Messages to inject."),
        click.argument("graph"),
    ):
        command = option(command)
    return command


@flowstat.command(epilog="Example: flowstat run orders.graph --runs 10000 --seed 7 -o orders.parquet")
@_records
@_behaves
@click.option(
    "--input", "source", metavar="FILE", help='Messages to inject, JSON Lines {"node", "key", "body"}; - reads stdin.'
)
@click.option(
    "--record",
    type=click.Choice(["trace", "inputs", "both"]),
    default="trace",
    show_default=True,
    help="The trace, or only a journal of what came from outside (.journal), from which replay makes it again.",
)
@click.option("--broker", metavar="URL", help="Handle messages from a RabbitMQ: amqp://user:password@host:5672/.")
@click.option(
    "--nodes", metavar="NODE,...", help="With --broker, which nodes; '' for none: only inject.  [default: all]"
)
@click.option("--worker", metavar="NAME", help="With --broker, this worker's name, and that of its trace.")
@click.option(
    "--idle", type=click.FloatRange(min=0), metavar="SECONDS", help="With --broker, end when none came so long."
)
@click.option(
    "--batch", type=click.IntRange(min=1), metavar="N", help="With --broker, messages in a body.  [default: 256]"
)
@click.option(
    "--marks",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="With a journal: mark the states in it after so many messages, for mirrors to compare.",
)
@click.option("--components/--no-components", default=True, show_default=True, help="Start the programs of the graph?")
@click.option(
    "--follow",
    is_flag=True,
    help="With --input of a plan: no behaviours, every message goes its walk. So it does where there are none.",
)
@click.option(
    "--contemporaneously",
    "at_once",
    metavar="RUNS",
    type=click.IntRange(min=1),
    help="Handle many messages at a time, of so many runs at once; nodes with a state still one by one.",
)
def run(
    graph: str,
    behaviours: str | None,
    source: str | None,
    marks: int,
    components: bool,
    follow: bool,
    at_once: int | None,
    **recording: Any,
) -> None:
    """Run the graph with its behaviours and components, and record the trace.

    Behaviours are functions (state, message, ctx) in the Python file beside the graph (orders.graph:
    orders.py), named as their nodes; a node without one forwards what it gets. A run that is stopped at
    its bound ends with exit code 1, and its trace is complete.

    With --broker, any number of such processes share the work until they are interrupted, and -o is a
    directory, to which each adds its trace. One that is given --runs, --start or --input injects too.
    """
    from flowstat.run.pool import Together

    runs, starts, seed = (recording.pop(name) for name in ("runs", "starts", "seed"))
    if graph == source == "-":
        raise click.UsageError("standard input (-) can be read once only")
    if marks and recording["record"] == "trace":
        raise click.UsageError("--marks are of a journal: say --record inputs, or both")
    if follow and (source is None or behaviours):
        raise click.UsageError("--follow needs the --input of a plan, and no --behaviours")
    if follow and recording["record"] != "trace":
        raise click.UsageError("--follow leaves the behaviours out, as no replay does: the plan is the journal")
    app = _app(graph, behaviours, seed, bare=follow)
    shared = {name: recording.pop(name) for name in ("broker", "nodes", "worker", "idle", "batch")}
    if shared["broker"]:
        _work(app, graph, source, runs, starts, recording["output"], **shared)
        return
    if any(value is not None for value in shared.values()):
        raise click.UsageError("--nodes, --worker, --idle and --batch are of a broker: say --broker amqp://...")
    with _recording(graph, app.graph, **recording) as options, _messages(app, source, runs, starts) as messages:
        together = Together(at_once) if at_once else False
        result = app.run(messages, marks=marks, components=components, contemporaneously=together, **options)
    _finish(result)


def _work(
    app: App,
    graph: str,
    source: str | None,
    runs: int,
    starts: tuple[str, ...],
    output: str | None,
    broker: str,
    nodes: str | None,
    batch: int | None,
    **more: Any,
) -> None:
    """Inject through a broker if messages are given, and then handle what comes."""
    from click.core import ParameterSource

    from flowstat.run.amqp import work
    from flowstat.run.amqp_inject import inject

    context = click.get_current_context()
    given = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    own = {"graph", "behaviours", "seed", "source", "starts", "runs", "output"}
    own |= {"broker", "nodes", "worker", "idle", "batch"}
    for option in (option for option in context.command.params if option.name in given - own):
        raise click.UsageError(f"{option.opts[0]} is not for a run through a broker: leave it out")
    name = "run" if graph == "-" else Path(graph).stem
    chosen = None if nodes is None else [node.strip() for node in nodes.split(",") if node.strip()]
    shared: dict[str, Any] = {"graph": name, "batch": batch or 256}
    if given & {"source", "starts", "runs"}:
        with _messages(app, source, runs, starts) as messages:
            for sentence in inject(app, broker, messages, **shared).sentences():
                click.echo(sentence, err=True)
    elif chosen == []:
        raise click.UsageError("--nodes '' only injects: add --runs, --start or --input")
    if chosen == []:
        return
    target = output or f"{name}-traces"
    result = work(app, broker, target, nodes=chosen, **shared, **more)
    for sentence in result.sentences():
        click.echo(sentence, err=True)
    click.echo(f"wrote {target}", err=True)
    if result.interrupted:
        sys.exit(EXIT_INTERRUPTED)


@flowstat.command(epilog="Example: flowstat replay orders.graph orders.journal -o orders.parquet")
@click.argument("graph")
@click.argument("journal")
@_behaves
@click.option("-o", "--output", metavar="TRACE", help="Write the trace too: its bytes are those of the run's own.")
@click.option("--against", metavar="TRACE", help="A trace that the run recorded, to be compared row by row.")
@click.option("--overwrite", is_flag=True, help="Replace the trace that is there.")
@_shows()
def replay(
    graph: str,
    journal: str,
    behaviours: str | None,
    output: str | None,
    against: str | None,
    overwrite: bool,
    format: str,
) -> None:
    """Run again from a journal, and say whether the same events come of it.

    With --against, the first event that differs is named; the state of every node at the end is compared in any case.
    A difference ends with exit code 1: some behaviour hangs on what is not in the journal (real time, chance of its
    own, a file), or is not the one that ran.
    """
    app = _app(graph, behaviours, 0)
    with _trace_too(output, overwrite, journal, *([against] if against else [])) as writer:
        result = app.replay(journal, writer, against=against)
    if format == "table":
        for sentence in result.sentences():
            click.echo(sentence)
    else:
        _print({"replay": result}, format)
    if result.differences:
        sys.exit(EXIT_FAILED)


@flowstat.command(epilog="Example: flowstat mirror orders.graph orders.journal --runs 10000")
@click.argument("graph")
@click.argument("journal")
@_behaves
@click.option("--runs", type=click.IntRange(min=0), default=1000, show_default=True, help="As for the run.")
@click.option("--start", "starts", metavar="NODE", multiple=True, help="As for the run.")
@click.option("--input", "source", metavar="FILE", help="As for the run.")
@click.option("-o", "--output", metavar="TRACE", help="Write the trace of all of it.")
@click.option("--overwrite", is_flag=True, help="Replace the trace that is there.")
@_shows()
def mirror(
    graph: str,
    journal: str,
    behaviours: str | None,
    runs: int,
    starts: tuple[str, ...],
    source: str | None,
    output: str | None,
    overwrite: bool,
    format: str,
) -> None:
    """Follow the journal of a run in another process, and take over when it is killed.

    The mirror handles the same events, so its states are those of the run. When the run is killed it goes on with what
    was not accepted yet: give it the messages of the run (--runs and --start, or --input).
    """
    app = _app(graph, behaviours, 0)
    with _trace_too(output, overwrite, journal) as writer, _messages(app, source, runs, starts) as messages:
        result = app.mirror(journal, messages, writer)
    _print({"mirror": result}, format)
    _finish(result.run)


@contextmanager
def _trace_too(output: str | None, overwrite: bool, *inputs: str) -> Iterator[TraceWriter | None]:
    """Open a trace to write, if one is asked for; what is read is not written over."""
    from flowstat.read.canonical import open_writer

    if output is None:
        yield None
        return
    _keep(output, *inputs)
    with open_writer(output, overwrite=overwrite) as writer:
        yield writer
    click.echo(f"wrote {output}", err=True)


@contextmanager
def _messages(app: App, source: str | None, runs: int, starts: tuple[str, ...]) -> Iterator[Iterable[Injection]]:
    """Open the messages to inject: those of a file, or empty ones."""
    from flowstat.errors import RunError
    from flowstat.run.inject import Stream, lines_of, read_injections, spread

    if source is None:
        yield spread(app.graph, runs, starts or None)
        return
    if starts:
        raise click.UsageError("--input names the nodes itself: leave out --start")
    # A plan's messages find their way by themselves where no behaviour decides.
    follow = not app.behaviours
    try:
        file = sys.stdin.buffer if source == "-" else open(source, "rb")  # noqa: SIM115
        if _comes_slowly(file):
            yield Stream(read_injections(lines_of(file.fileno()), source, follow=follow))
            if file is not sys.stdin.buffer:
                file.close()
            return
    except OSError as error:
        raise RunError(f"can't read the messages {source}: {error.strerror}") from None
    with file:
        yield read_injections(file, source, follow=follow)


def _comes_slowly(file: BinaryIO) -> bool:
    """Whether a file is a pipe or a terminal, so that there may be nothing to read for a while."""
    import stat
    from os import fstat

    try:
        mode = fstat(file.fileno()).st_mode
    except (OSError, ValueError):  # no file of the system
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def _app(graph: str, behaviours: str | None, seed: int, *, bare: bool = False) -> App:
    """Read a graph, and the behaviours given or beside it, unless they are to be left out."""
    from flowstat.read.files import read_graph
    from flowstat.run.app import App
    from flowstat.run.load import load_behaviours

    program = read_graph(graph)
    if bare:
        return App(program, seed)
    beside = Path(graph).with_suffix(".py")
    if not behaviours and (graph == "-" or not beside.is_file()):
        click.echo("no behaviours: every node forwards what it gets (try flowstat simulate)", err=True)
        return App(program, seed)
    loaded = load_behaviours(behaviours or beside, program)
    click.echo(f"behaviours of {', '.join(loaded.behaviours) or 'no node'} from {loaded.path}", err=True)
    if loaded.unused:
        click.echo(f"functions that are no node's, not used: {', '.join(loaded.unused)}", err=True)
    return App(program, seed, loaded.behaviours)


@flowstat.command(epilog="Example: flowstat simulate app.graph --runs 1000 -o app.parquet")
@_records
def simulate(graph: str, runs: int, starts: tuple[str, ...], seed: int, **recording: Any) -> None:
    """Simulate the graph without any code: each event draws its arrow by the @ shares."""
    from flowstat.read.files import read_graph
    from flowstat.run.simulate import simulate as walk

    program = read_graph(graph)
    with _recording(graph, program, **recording) as options:
        result = walk(program, runs, seed, starts=starts or None, **options)
    _finish(result)


@contextmanager
def _recording(
    graph: str,
    graph_of: Graph,
    output: str | None,
    max_events: int,
    max_queue: int,
    clock: str,
    overwrite: bool,
    otlp: str | None,
    record: str = "trace",
    **virtual: Any,
) -> Iterator[dict[str, Any]]:
    """Open the trace, the journal and the progress line of a run."""
    from dataclasses import replace
    from time import time_ns

    from flowstat.read.canonical import open_writer
    from flowstat.run.loop import Limits

    if output == "-":
        raise click.UsageError("a trace is written to a file or directory, not to standard output")
    suffix = "journal" if record == "inputs" else "parquet"
    target = output or (f"run.{suffix}" if graph == "-" else f"{Path(graph).stem}.{suffix}")
    journal = None if record == "trace" else Path(target).with_suffix(".journal")
    if record == "both" and journal == Path(target):
        raise click.UsageError(
            f"the journal would be {journal}, as the trace: give the trace another ending (.parquet)"
        )
    if clock != "virtual" and any(virtual.values()):
        raise click.UsageError("--latency, --latencies and --every are of virtual time: say --clock virtual")
    time = time_ns if clock == "wall" else _virtual_time(**virtual) if clock == "virtual" else None
    limits: Limits = Limits(max_events=max_events, max_queue=max_queue)
    if otlp:
        from flowstat.run.telemetry import SPANS, SpansToo, otlp_exporter

        if time is None:
            raise click.UsageError("--otlp sends times: say --clock wall, or virtual")
        limits, exporter = replace(limits, batch_rows=SPANS), otlp_exporter(otlp)
    options: dict[str, Any] = {"limits": limits, "clock": time}
    if journal is not None:
        from flowstat.run.journal_writer import make_way

        make_way(journal, overwrite)
        options["journal"] = journal
    opened = nullcontext() if record == "inputs" else open_writer(target, overwrite=overwrite)
    with (
        opened as file,
        SpansToo(exporter, file) if otlp else nullcontext(file) as writer,
        _watching(graph_of, writer) as (watched, watch),
    ):
        yield {"writer": watched, "watch": watch, **options}
    for written in (None if record == "inputs" else target, journal):
        if written is not None:
            click.echo(f"wrote {written}", err=True)


@contextmanager
def _watching(graph: Graph, writer: TraceWriter | None) -> Iterator[tuple[TraceWriter | None, Watch]]:
    """Show how a run is doing: a live table on a terminal, else now and then a line."""
    import threading

    from flowstat.run.watch import Watch

    watch = Watch(graph)
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.live import Live

        from flowstat.run.watch import Discarding
        from flowstat.show.watching import status_table

        with Live(
            get_renderable=lambda: status_table(watch.status()),
            console=Console(stderr=True),
            refresh_per_second=4,
            transient=True,
        ):
            yield writer or Discarding(), watch
        return
    over = threading.Event()

    def tell() -> None:
        while not over.wait(SAY_EVERY):
            status = watch.status()
            if status is not None:
                click.echo(status.line(), err=True)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield writer, watch
    finally:
        over.set()
        thread.join()


def _virtual_time(delays: tuple[str, ...], recorded: str | None, every: str | None) -> VirtualTime:
    """Return the virtual time that options tell: recorded latencies, and those stated over them."""
    from flowstat.run.latencies import LatencyLaw, VirtualTime

    def law(text: str) -> LatencyLaw:
        try:
            mean, _, deviation = text.partition(",")
            return LatencyLaw(float(mean), float(deviation or 0))
        except ValueError:
            raise click.UsageError(
                f"{text!r} is no time: give seconds, as 0.5, or mean and deviation, 0.5,0.1"
            ) from None

    laws: dict[tuple[str | None, str], LatencyLaw] = {}
    if recorded:
        from flowstat.estimate.counting import count as count_traces
        from flowstat.estimate.latency import GROWTH

        traces, memory = _traces((recorded,))
        for pair, found in count_traces(traces, latencies=True, memory=memory).latencies.items():
            # A bucket of the sketch stands for its middle, which is off by 1 % at most.
            values = tuple(1e-9 * 2 * GROWTH**k / (GROWTH + 1) for k in found.buckets)
            laws[pair] = LatencyLaw(values=values, weights=tuple(found.buckets.values()))
    given = [delay.rpartition("=") for delay in delays]
    for arrow, _, text in given:
        if arrow:
            source, sign, target = arrow.partition("->")
            if not sign:
                raise click.UsageError(f"{arrow!r} is no arrow: write 'a -> b=0.5'")
            laws[source.strip(), target.strip()] = law(text)
    everywhere = [law(text) for arrow, _, text in given if not arrow]
    if everywhere and laws:
        raise click.UsageError("give one --latency for all, or one for each arrow")
    return VirtualTime(everywhere[-1] if everywhere else laws, law(every) if every else None)


def _finish(result: RunResult) -> None:
    for sentence in result.sentences():
        click.echo(sentence, err=True)
    if result.interrupted:
        sys.exit(EXIT_INTERRUPTED)
    if result.stopped:
        sys.exit(EXIT_FAILED)


def _chain(
    graph: str,
    traces: tuple[str, ...],
    prior: float,
    start: str | None,
    *,
    latencies: bool = False,
    lineages: bool = True,
) -> Chain:
    """Read a graph and traces, start runs where asked, and say on standard error what stands behind the numbers."""
    from dataclasses import replace

    from flowstat.estimate.chain import estimate, start_law
    from flowstat.estimate.counting import count as count_traces
    from flowstat.estimate.counts import Counts
    from flowstat.explain.sentences import data_sentences
    from flowstat.read.files import read_graph

    if Path(graph).suffix.lower().removeprefix(".") in CHAIN_FORMATS:
        return _chain_of_file(graph, traces, start)
    if [graph, *traces].count("-") > 1:
        raise click.UsageError("standard input (-) can be read once only")
    if not traces and (_remembers() or any(click.get_current_context().meta.get(READING, {}).values())):
        raise click.UsageError("options of how traces are read need traces: give them with -t")
    declared = read_graph(graph)
    counts = Counts()
    if traces:
        source, memory = _traces(traces)
        with _progress() as progress:
            counts = count_traces(source, declared, latencies=latencies, memory=memory, progress=progress)
    chain = estimate(counts, declared, prior)
    begin = start
    if _remembers():
        from flowstat.estimate.remembering import remembering

        split = remembering(source, declared, prior, memory=memory, counts=counts)
        chain, begin = split, split.begin(start) if start is not None else None
    for sentence in data_sentences(chain, lineages=lineages):
        click.echo(sentence, err=True)
    return replace(chain, start=start_law(chain, begin))


def _states(chain: Chain, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the states of nodes: several, where a node is split by the step before."""
    from flowstat.estimate.remembering import Remembering

    if not isinstance(chain, Remembering):
        return names
    return tuple(state for name in names for state in chain.states.get(name, (name,)))


def _chain_of_file(graph: str, traces: tuple[str, ...], start: str | None) -> Chain:
    from dataclasses import replace

    from flowstat.estimate.chain import start_law
    from flowstat.estimate.chain_files import read_chain

    if traces or _remembers():
        raise click.UsageError(f"{graph} is a chain with its chances: traces say nothing more, leave out -t")
    chain = read_chain(graph)
    return replace(chain, start=start_law(chain, start))


def _rows_of(result: Any, names: tuple[str, ...]) -> Any:
    """Return a result with the rows of some nodes only, if any are named."""
    from dataclasses import replace

    return replace(result, states=result.states.only(names)) if names else result


def _keep(output: str, *inputs: str | Path) -> None:
    """Refuse to write over what is read."""
    from flowstat.errors import OutputError

    target = Path(output).resolve()
    for path in inputs:
        place = Path(path).resolve()
        if output != "-" and (target == place or target in place.parents):
            raise OutputError(f"{output} is read here: write to another name")


def _print(results: dict[str, Result], format: str) -> None:
    """Print results; several of them are one JSON object."""
    from flowstat.show.tables import render

    if format == "csv" and len(results) > 1:
        raise click.UsageError(f"csv holds one table: add --show with one of {', '.join(results)}")
    if format == "json" and len(results) > 1:
        import json

        parts = {name: json.loads(render(result, "json")) for name, result in results.items()}
        click.echo(json.dumps(parts, indent=2, ensure_ascii=False))
        return
    for k, result in enumerate(results.values()):
        text = render(result, format)  # type: ignore[arg-type]
        click.echo(("\n" if k else "") + text.rstrip("\n"))

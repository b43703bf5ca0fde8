"""The small tables that counting on an engine ends with, made into `Counts`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flowstat.errors import TraceError
from flowstat.estimate.counts import Counts
from flowstat.read.notices import Notices
from flowstat.read.patterns import format_pattern, parse_pattern, sorted_pattern
from flowstat.read.resolve import DUPLICATES, ORPHANS
from flowstat.read.words import shown
from flowstat.results import counted

__all__ = ["link_counts", "log_counts", "retry_notice", "tree_counts"]

LOST_SENDERS = "messages that no arrow took, of unknown sender, not counted as dropped"
RETRIES = "messages sent again after their handler failed (retries), each counted as a message of its own"
STRAYS = "span links from events that were not recorded, left out"
UNTAKEN = "span links from or to messages that no arrow took, left out"


def tree_counts(
    rows: Iterable[Mapping[str, Any]],
    origin: str,
    notices: Notices,
    *,
    again: int = 0,
    node: Callable[[Any], str] = str,
    pattern: Callable[[Any], str] = str,
) -> Counts:
    """Return the counts of spans.

    Parameters
    ----------
    rows
        Of `flowstat.estimate.expression.tree_table`.
    origin
        What the traces are called.
    notices
        Gets the problems that the rows show, and keeps those it has; the counts hold them all.
    again
        How many rows repeated an event and were left out before.
    node, pattern
        What names and send patterns in the rows stand for, where they are codes. Names that stand for one node are
        counted together.

    Raises
    ------
    TraceError
        If an event is its own parent, or a send pattern is none.
    """
    table: Counter[tuple[str, str]] = Counter()
    starts, errors, pending, dropped = (Counter[str]() for _ in range(4))
    below = selves = unknown = 0
    for row in rows:
        # Sums are decimals on some engines.
        n, status, unsaid = int(row["n"]), row["status"], int(row["unsaid"])
        below += (0 if row["root"] else n) - int(row["messages"])
        selves += int(row["selves"])
        if unsaid and row["name"] is not None:
            dropped[node(row["name"])] += unsaid
            unknown -= unsaid
        if status == "dropped":
            if row["parent"] is None:
                unknown += n
            else:
                dropped[node(row["parent"])] += n
            continue
        name = node(row["name"])
        if status == "pending":
            pending[name] += n
            continue
        table[name, _sent(row, name, origin, node, pattern)] += n
        if row["root"]:
            starts[name] += n
        if status == "error":
            errors[name] += n
    if selves:
        raise TraceError(f"{origin}: {selves:,} events are their own parents: the ids are damaged")
    for what, number in ((DUPLICATES, again), (ORPHANS, below), (LOST_SENDERS, unknown)):
        if number:
            notices.note(what, origin, number)
    return Counts(
        table=_sorted(table),
        starts=_sorted(starts),
        errors=_sorted(errors),
        pending=_sorted(pending),
        dropped=_sorted(dropped),
        files=(origin,),
        problems=notices.problems,
    )


def _sent(
    row: Mapping[str, Any], name: str, origin: str, node: Callable[[Any], str], pattern: Callable[[Any], str]
) -> str:
    """Return what an event sent: as its row says, or else as its children do."""
    if row["sent"] is not None:
        said = pattern(row["sent"])
        try:
            return sorted_pattern(said)
        except TraceError as error:
            raise TraceError(f"{origin}: an event at {shown(name)!r}: {error}") from None
    children = row["children"] or ()
    if isinstance(children, str):
        # From an engine without lists: every name is quoted.
        children = [child for child, times in parse_pattern(children) for _ in range(times)]
    return format_pattern(map(node, children))


def log_counts(
    rows: Iterable[Mapping[str, Any]], origin: str, notices: Notices, *, node: Callable[[Any], str] = str
) -> Counts:
    """Return the counts of a sequential log.

    Parameters
    ----------
    rows
        Of `flowstat.estimate.expression.log_table`.
    origin, notices, node
        As for `tree_counts`.
    """
    table: Counter[tuple[str, str]] = Counter()
    starts, pending = Counter[str](), Counter[str]()
    for row in rows:
        name, n = node(row["name"]), int(row["n"])
        if row["status"] == "pending":
            pending[name] += n
            continue
        table[name, "" if row["next"] is None else format_pattern([node(row["next"])])] += n
        if row["first"]:
            starts[name] += n
    return Counts(
        table=_sorted(table),
        starts=_sorted(starts),
        pending=_sorted(pending),
        files=(origin,),
        problems=notices.problems,
    )


def link_counts(
    rows: Iterable[Mapping[str, Any]], origin: str, notices: Notices, *, node: Callable[[Any], str] = str
) -> dict[tuple[str, str], int]:
    """Return (source, target) -> number of span links.

    Parameters
    ----------
    rows
        Of `flowstat.estimate.expression.links_table`.
    origin, notices, node
        As for `tree_counts`.
    """
    links: Counter[tuple[str, str]] = Counter()
    for row in rows:
        n = int(row["n"])
        if not row["known"] and row["target"] is not None:
            notices.note(STRAYS, f"{origin}: at {node(row['target'])}", n)
        elif row["source"] is None or row["target"] is None:
            ends = [node(row[end]) for end in ("source", "target") if row[end] is not None]
            notices.note(UNTAKEN, f"{origin}: at {ends[0]}" if ends else origin, n)
        else:
            links[node(row["source"]), node(row["target"])] += n
    return _sorted(links)


def retry_notice(rows: Iterable[Mapping[str, Any]], notices: Notices, *, node: Callable[[Any], str] = str) -> None:
    """Note how many retries there are, if any: of the rows of `flowstat.estimate.expression.retries_table`."""
    found: Counter[str] = Counter()
    for row in rows:
        found[node(row["name"])] += int(row["n"])
    if found:
        most = max(sorted(found), key=found.__getitem__)
        notices.note(RETRIES, f"{counted(found[most], 'time')} at {most}", found.total())


def _sorted(numbers: Counter[Any]) -> dict[Any, int]:
    return dict(sorted(numbers.items()))

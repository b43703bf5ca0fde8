"""What counting means, once, for every engine: Ibis expressions whose results are small tables.

Spans are a table with the columns trace_id, span_id, parent_id (null at a root) and name, and with any of

- sent: the send pattern where the trace says it; null where it follows from the children
- status: ok, error, pending, dropped; without the column all are ok
- parent: the node that sent the message; looked at only where no arrow took it (dropped)
- started_at: a timestamp, or whole nanoseconds.

Names and patterns are text, or codes that stand for it (the pattern code 0 for the empty pattern); ids are of any one
type. Nothing here is bound to an engine, and nothing is created on one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from flowstat.read.repeats import IDS, by_bytes, repeated

if TYPE_CHECKING:
    import ibis.expr.types as ir

__all__ = ["doubtful_table", "links_of", "links_table", "log_table", "repeats_table", "retries_table", "tree_table"]


def repeats_table(spans: ir.Table) -> ir.Table:
    """Look at the ids of spans before they are counted.

    Returns
    -------
    ir.Table
        One row of numbers:

        - rows: how many there are
        - again: how many are of an event that another row is of: if any, count
          `flowstat.read.repeats.distinct_spans(spans)`
        - lost: rows without a trace id or span id, which can't be counted
        - backward: rows whose parent id is not less than their own: if none, no event is among its own ancestors.
    """
    import ibis

    twice = repeated(spans)
    rows = {
        "lost": spans.trace_id.isnull() | spans.span_id.isnull(),
        "backward": spans.parent_id >= spans.span_id,
    }
    numbers = spans.agg(rows=spans.count(), **{name: some.sum().fill_null(0) for name, some in rows.items()})
    return numbers.cross_join(twice.agg(again=(ibis._.rows - 1).sum().fill_null(0)))


def doubtful_table(spans: ir.Table) -> ir.Table:
    """Return what has to be looked at to know that no event is among its own ancestors.

    Where every parent's id is less than its child's there is no cycle, and so where every parent started before its
    child.

    Parameters
    ----------
    spans
        Each event once; with started_at or without.

    Returns
    -------
    ir.Table
        trace_id, span_id, parent_id of the events with a parent in runs where neither is so.
    """
    import ibis

    child = spans.filter(spans.parent_id.notnull())
    runs = child.filter(child.parent_id >= child.span_id).select("trace_id").distinct()
    if "started_at" in spans.columns:
        above = spans.select(trace_id=spans.trace_id, parent_id=spans.span_id, before=spans.started_at)
        both = child.inner_join(above, ["trace_id", "parent_id"])
        late = both.filter(~(both.before < both.started_at).fill_null(False))
        runs = runs.semi_join(late.select("trace_id").distinct(), "trace_id")
    return child.semi_join(runs, "trace_id").select(*IDS, ibis._.parent_id)


def tree_table(spans: ir.Table, cut: int | None = None, certify: bool = False) -> ir.Table:
    """Count spans: what each event sent follows from its children, where the row does not say it.

    Parameters
    ----------
    spans
        Each event once, see `repeats_table`.
    cut
        Nanoseconds: an event that sent nothing and started later than this before the last start of all may have
        been cut off. Its status becomes pending.
    certify
        Add the column that may show that no event is among its own ancestors; times are whole nanoseconds then.

    Returns
    -------
    ir.Table
        One row for each distinct combination of

        - name, sent, status
        - children: the names of those that the event sent a message to, sorted, each as often as there was a message
          (null or empty: none; where the engine has no lists: quoted names with a space between, in any order)
        - root: whether it has no parent id
        - parent: the sender's node, where the status is dropped

        with the numbers

        - n: how many rows
        - messages: rows whose parent id is one of these. The rows without `root` that are not among them are
          orphans: they count, but start no run.
        - unsaid: those of them that are dropped and do not say their sender, which is `name`
        - selves: rows that are their own parents, which nothing can be
        - untimed (if `certify`): events that have a child not started after them. If none has, there is no cycle.

    Notes
    -----
    An event is a row whose status is ok or error. A pending row is a message to `name` that was not handled: no event,
    but its parent sent it. A dropped row is a message that came nowhere: its parent's pattern lacks it.
    """
    import ibis

    has = spans.columns
    child = spans.filter(spans.parent_id.notnull())
    taken = child.status != "dropped" if "status" in has else None
    numbers: dict[str, ir.Scalar] = {"children": _multiset(child.name, taken)}
    # Where the children are all there is to a message, their number need not be carried along.
    plain = taken is None and "sent" not in has and numbers["children"].type().is_array()
    if not plain:
        numbers["messages"] = child.count()
    if taken is not None:
        numbers["taken"] = taken.sum()
        unsaid = ~taken & child.parent.isnull() if "parent" in has else ~taken
        numbers["unsaid"] = unsaid.sum()
    if certify:
        numbers["earliest"] = child.started_at.min()
    sent = child.group_by(sender_trace=child.trace_id, sender=child.parent_id).agg(**numbers)
    # Only what is needed goes through the join, and not a parent's id: it may have to be put aside on disk.
    own = spans.select(
        *IDS,
        *(c for c in ("name", "sent", "status", "parent", "started_at") if c in has),
        root=spans.parent_id.isnull(),
        is_self=spans.parent_id == spans.span_id,
    )
    event = own.left_join(sent, [own.trace_id == sent.sender_trace, own.span_id == sent.sender])

    keys: dict[str, ir.Value] = {"name": event.name, "root": event.root}
    children = event.children
    if "sent" in has:
        keys["sent"] = event.sent
        children = ibis.ifelse(event.sent.isnull(), children, ibis.null(children.type()))
    keys["children"] = children
    if "status" in has:
        keys["status"] = event.status
    if "parent" in has and "status" in has:
        keys["parent"] = ibis.ifelse(event.status == "dropped", event.parent, ibis.null(event.parent.type()))
    if cut is not None and "started_at" in has:
        nothing = event.taken.fill_null(0) == 0 if taken is not None else event.sender.isnull()
        if "sent" in has:
            nothing = ibis.ifelse(event.sent.isnull(), nothing, event.sent == _empty(event.sent))
        status = event.status if "status" in has else ibis.literal("ok")
        late = nothing & status.isin(["ok", "error"]) & (event.started_at > _edge(spans.started_at, cut))
        keys["status"] = ibis.ifelse(late.fill_null(False), "pending", status.cast("string"))

    sums: dict[str, ir.Scalar] = {"selves": event.is_self.sum()}
    if not plain:
        sums["messages"] = event.messages.sum()
    if taken is not None:
        sums["unsaid"] = event.unsaid.sum()
    if certify:
        sums["untimed"] = (event.earliest <= event.started_at).sum()
    # Equal multisets in different orders are brought together by the second, small grouping: sorting each event's
    # children takes twice the time.
    found = event.group_by(**keys).agg(n=event.count(), **sums)
    if found.children.type().is_array():
        found = found.mutate(children=found.children.sort())
    total = found.group_by(*keys).agg(n=found.n.sum(), **{c: found[c].sum().fill_null(0) for c in sums})
    if plain:
        total = total.mutate(messages=total.n * total.children.length().fill_null(0))
    missing = {
        "sent": ibis.null("string"),
        "status": ibis.literal("ok"),
        "parent": ibis.null("string"),
        "unsaid": ibis.literal(0),
    }
    return total.mutate(**{c: value for c, value in missing.items() if c not in total.columns})


def _multiset(names: ir.Column, where: ir.BooleanValue | None) -> ir.Scalar:
    """Collect names; as one text on an engine that has no lists."""
    import ibis.expr.operations as ops

    backends, _ = names.as_table()._find_backends()
    if all(backend.has_operation(ops.ArrayCollect) for backend in backends):
        return names.collect(where=where)
    text = cast("ir.StringColumn", names.cast("string"))
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return ('"' + quoted + '"').group_concat(" ", where=where)


def _empty(sent: ir.Column) -> str | int:
    return 0 if sent.type().is_integer() else ""


def _edge(times: ir.Column, cut: int) -> ir.Scalar:
    """Return the time after which an event's successors may have been cut off."""
    import ibis

    last = times.max().as_scalar()
    if times.type().is_integer():
        return ibis.greatest(last, cut - 2**63) - cut  # there are no earlier times
    # Engines know microseconds: with those, later than the exact edge is later than the microsecond before it.
    return last - ibis.interval(microseconds=-(-cut // 1000))


def log_table(log: ir.Table, cut: int | None = None) -> ir.Table:
    """Count a sequential log: an event's successor is the next event of its case by (time, then file order).

    Parameters
    ----------
    log
        Columns trace_id (the case) and name (the activity), with any of started_at (a timestamp, or whole nanoseconds)
        and row (what the order of the file is). Events of unknown time come last; those that nothing tells apart,
        in the order of their names.
    cut
        Nanoseconds: a case's last event that is later than this before the last time of all may have been cut off.

    Returns
    -------
    ir.Table
        One row for each distinct combination of name, next (null: the case ends), first (whether it is the case's first
        event) and status (pending: perhaps cut off, and then no event; else ok) with their number n.
    """
    import ibis

    has = log.columns
    order = [log[c].asc(nulls_first=False) for c in ("started_at", "row") if c in has]
    order = order if "row" in has else [*order, by_bytes(log.name).asc()]
    case = ibis.window(group_by=[log.trace_id], order_by=order)
    keys: dict[str, ir.Value] = {
        "name": log.name,
        "next": log.name.lead().over(case),
        "first": ibis.row_number().over(case) == 0,
    }
    if "started_at" in has:
        keys["started_at"] = log.started_at
    event = log.select(**keys)
    status: ir.Value = ibis.literal("ok")
    if cut is not None and "started_at" in has:
        late = event.next.isnull() & (event.started_at > _edge(log.started_at, cut))
        status = ibis.ifelse(late.fill_null(False), "pending", "ok")
    return event.group_by(event.name, event.next, event["first"], status=status).agg(n=event.count())


def links_of(spans: ir.Table) -> ir.Table:
    """Return the links in the column `links` of spans, a list of {trace_id, span_id}: one row each."""
    some = spans.select(*IDS, link=spans.links.unnest())
    return some.select(*IDS, linked_trace_id=some.link["trace_id"], linked_span_id=some.link["span_id"])


def links_table(spans: ir.Table, links: ir.Table | None = None) -> ir.Table:
    """Count span links: fan-in that makes nobody a parent.

    Parameters
    ----------
    spans
        Each event once.
    links
        As `links_of` returns them, and from `spans` unless given: of all rows, since of an event that was recorded
        twice the links of every row are facts. The same link twice counts once.

    Returns
    -------
    ir.Table
        source (the node of the event that was linked from), known (whether that was recorded), target (the node of the
        event that says so) and n. Messages that no node took have none.
    """
    import ibis

    links = (links_of(spans) if links is None else links).distinct()
    target = spans.select(*IDS, target=spans.name)
    known = ibis.literal(True)
    source = spans.select(linked_trace_id=spans.trace_id, linked_span_id=spans.span_id, source=spans.name, known=known)
    both = links.inner_join(target, IDS).left_join(source, ["linked_trace_id", "linked_span_id"])
    return both.group_by(both.source, both.target, known=both.known.notnull()).agg(n=both.count())


def retries_table(spans: ir.Table) -> ir.Table:
    """Count retries by node: of k messages that one event sent to one node, e of which failed, min(e, k - 1).

    Every try is a message of its own in all other counts. Takes the column status; returns name and n.
    """
    import ibis

    group: Sequence[str] = ("trace_id", "parent_id", "name")
    child = spans.filter(spans.parent_id.notnull() & (spans.status != "dropped"))
    wrong = child.filter(child.status == "error")
    failed = wrong.group_by(*group).agg(failed=wrong.count())
    siblings = child.inner_join(failed, group)
    tries = siblings.group_by(*group).agg(failed=siblings.failed.max(), tries=siblings.count())
    retries = ibis.least(tries.failed, tries.tries - 1)
    found = tries.select(tries.name, retries=retries).filter(ibis._.retries > 0)
    return found.group_by(found.name).agg(n=found.retries.sum())

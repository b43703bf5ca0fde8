"""Which column of a table means what: named by the user, or found by its usual name.

Names are compared without case and without `_`, `-` and spaces: `CaseID`, `case_id` and `Case ID` are one name. The
usual names are those of XES and pm4py, of OpenTelemetry's exporters to tables, of Jaeger, Zipkin and Tempo, and of
the canonical columns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from flowstat.errors import TraceError
from flowstat.read.mapping import Mapping
from flowstat.read.words import shown

__all__ = ["ERROR_WORDS", "OK_WORDS", "ROOT_WORDS", "Columns", "find_columns"]

ROOT_WORDS = ("", "root", "none", "null", "nil")
"""What stands in place of a parent's id where there is no parent, in any case; so do zeros only."""

OK_WORDS = ("", "0", "1", "false", "ok", "unset", "success", "status_code_ok", "status_code_unset")
"""Words, in any case, for a handling without an error; 0 and 1 are OpenTelemetry's codes for unset and ok."""

ERROR_WORDS = ("2", "true", "error", "failed", "failure", "status_code_error")
"""Words, in any case, for a handling with an error; 2 is OpenTelemetry's code, `true` stands in a column `error`."""

# Of each role the usual names, group after group: the first group of which a column is there decides, and two columns
# of one group are ambiguous.
_CASE = (
    ("case:concept:name",),
    ("caseid", "case", "casekey", "casenumber", "casename"),
    ("processinstanceid", "processinstance", "instanceid"),
)
_ACTIVITY = (
    ("concept:name",),
    ("activity", "activityname", "activitylabel", "activityid"),
    ("event", "eventname", "eventtype", "task", "taskname", "action"),
    ("operationname", "spanname"),
    ("operation", "name"),
)
_LOG_TIME = (
    ("time:timestamp",),
    ("timestamp", "time", "datetime", "eventtime", "eventtimestamp"),
    ("starttimestamp", "startedat", "starttime", "start"),
    ("completetimestamp", "completetime", "endtimestamp", "endtime"),
    ("date",),
)
_TRACE = (("traceid",), ("trace",))
_SPAN = (("spanid",), ("span",), ("id",))
_PARENT = (("parentspanid",), ("parentid",), ("parentspan", "parent"))
_NAME = (("spanname", "operationname"), ("name", "operation"), ("concept:name", "activity"))
_STARTED = (
    ("starttimeunixnano", "starttimeunixnanos", "starttimenano", "starttimens", "starttimeus", "starttimemillis"),
    ("startedat", "starttime", "starttimestamp", "start"),
    ("timestamp", "time:timestamp", "time"),
)
_ENDED = (
    ("endtimeunixnano", "endtimeunixnanos", "endtimenano", "endtimens", "endtimeus", "endtimemillis"),
    ("endedat", "endtime", "endtimestamp", "end"),
)
_DURATION = {"nano": 1, "nanos": 1, "ns": 1, "micros": 10**3, "us": 10**3, "millis": 10**6, "ms": 10**6}
_STATUS = (("statuscode", "spanstatuscode", "otel.statuscode"), ("status", "spanstatus"), ("haserror", "error"))
_SERVICE = (
    ("service.name", "servicename", "resource.service.name", "resourceservicename"),
    ("service", "processservicename", "process.servicename", "localendpoint.servicename", "localservicename"),
)
_POD = ("podname", "k8s.pod.name", "k8spodname", "pod")
_WORKER = (_POD, ("service.instance.id", "serviceinstanceid", "worker"), ("host.name", "hostname", "host"))
_KEY = (("messaging.rabbitmq.destination.routingkey", "messaging.rabbitmq.routingkey", "routingkey"), ("key",))
_SENT = (("sent",),)
_SENT_AT = (("sentat",),)

# What of a table of OpenTelemetry's ClickHouse exporter is there beside its column Duration, in nanoseconds.
_CLICKHOUSE = {"timestamp", "spanid", "spanname", "servicename", "duration"}


@dataclass(frozen=True)
class Columns:
    """Which columns of a table hold what; None where no column does.

    Attributes
    ----------
    shape
        `log`: rows of `case`, `activity` and `time`, in the table's order. `spans`: rows with `trace`, `span` and
        `parent` ids, `name`, and the rest.
    duration, unit
        Column of how long a handling took, for the time it ended where `ended` is None, and its nanoseconds.
    pod
        Whether `worker` holds the names of Kubernetes pods, which say the service where no other column does.
    """

    shape: Literal["log", "spans"]
    case: str | None = None
    activity: str | None = None
    time: str | None = None
    trace: str | None = None
    span: str | None = None
    parent: str | None = None
    name: str | None = None
    started: str | None = None
    ended: str | None = None
    duration: str | None = None
    unit: int = 1
    status: str | None = None
    service: str | None = None
    worker: str | None = None
    pod: bool = False
    key: str | None = None
    sent: str | None = None
    sent_at: str | None = None


def find_columns(names: Sequence[str], mapping: Mapping, origin: str) -> Columns:
    """Say which column means what, from their names alone.

    A column that the user names wins. The shape is that of the options given: `case` or `activity` say a log; `trace`,
    `span`, `parent` or `name` say spans. Without them it is spans where a trace, a span and a parent id are found, else
    a log where a case and an activity are; a trace id may be the case, unless there are span ids: then a column
    without the usual name is likely the parent, and has to be named. A log may be without a time, and is in its own
    order then. A log with a start and an end is taken by its start.

    Parameters
    ----------
    names
        The table's columns, in order.
    origin
        What messages call the table.

    Raises
    ------
    TraceError
        If a column that was named is not there, is there twice, or one that is needed is missing or ambiguous: with
        the option that names it and the columns there are.

    Examples
    --------
    >>> find_columns(["case_id", "Activity", "timestamp"], Mapping(), "log.csv").activity
    'Activity'
    >>> find_columns(["TraceID", "SpanID", "ParentID", "OperationName"], Mapping(), "spans.csv").shape
    'spans'
    """
    finder = _Finder(names, mapping, origin)
    log_options = [o for o in ("case", "activity") if getattr(mapping, o) is not None]
    span_options = [o for o in ("trace", "span", "parent", "name") if getattr(mapping, o) is not None]
    if log_options and span_options:
        raise TraceError(
            f"{origin}: --{log_options[0]} names a column of a log and --{span_options[0]} one of spans: a table is "
            "read as one or the other"
        )
    if span_options:
        return _spans(finder)
    if log_options:
        return _log(finder)
    if finder.has(_TRACE) and finder.has(_SPAN) and finder.has(_PARENT):
        return _spans(finder)
    if finder.has(_SPAN[:1]) and finder.has(_TRACE):
        raise finder.missing("parent", "the parent's id", "; a log without parents is read with --case and --activity")
    return _log(finder)


def _spans(finder: _Finder) -> Columns:
    about = "; a sequential log is read with --case and --activity"
    node = finder.mapping.node
    worker = finder.find(_WORKER)
    ended = finder.find(_ENDED)
    duration, unit = (None, 1) if ended else finder.duration()
    return Columns(
        shape="spans",
        trace=finder.need("trace", _TRACE, "the trace's id", about),
        span=finder.need("span", _SPAN, "the span's id", about),
        parent=finder.need("parent", _PARENT, "the parent's id", about),
        name=finder.chosen("name") or (finder.find(_NAME) if node else finder.need("name", _NAME, "the span's name")),
        started=finder.chosen("time") or finder.find(_STARTED, "time"),
        ended=ended,
        duration=duration,
        unit=unit,
        status=finder.find(_STATUS),
        service=finder.find(_SERVICE),
        worker=worker,
        pod=worker is not None and _plain(worker) in _POD,
        key=finder.find(_KEY),
        sent=finder.find(_SENT),
        sent_at=finder.find(_SENT_AT),
    )


def _log(finder: _Finder) -> Columns:
    about = "; spans are read with --trace, --span, --parent and --name"
    node = finder.mapping.node
    case = finder.need("case", (*_CASE, *_TRACE), "the case", about)
    activity = finder.chosen("activity") or (
        finder.find(_ACTIVITY) if node else finder.need("activity", _ACTIVITY, "the activity", about)
    )
    return Columns(
        shape="log",
        case=case,
        activity=activity,
        time=finder.chosen("time") or finder.find(_LOG_TIME, "time"),
    )


class _Finder:
    """Finds the columns of one table."""

    def __init__(self, names: Sequence[str], mapping: Mapping, origin: str) -> None:
        self.names = names
        self.mapping = mapping
        self.origin = origin
        self.numbers = Counter(names)
        self.by_plain: dict[str, list[str]] = {}
        for name in dict.fromkeys(names):
            self.by_plain.setdefault(_plain(name), []).append(name)

    def chosen(self, option: str) -> str | None:
        """Return the column that the user named for an option, if any."""
        name: str | None = getattr(self.mapping, option)
        if name is None:
            return None
        if name not in self.numbers:
            near = list(dict.fromkeys(self._near(name)))[:3]
            hint = f"; did you mean {' or '.join(repr(shown(n)) for n in near)}?" if near else ""
            raise TraceError(
                f"{self.origin} has no column {shown(repr(name))} (--{option}){hint or f'; it has {self._listed()}'}"
            )
        return self._once(name)

    def find(self, groups: Sequence[Sequence[str]], option: str | None = None) -> str | None:
        """Return the column with a usual name of the first group that there is; `option` would settle it."""
        for group in groups:
            found = [name for usual in group for name in self.by_plain.get(usual, ())]
            if len(found) > 1 and option:
                raise TraceError(
                    f"{self.origin}: {' and '.join(repr(shown(n)) for n in found)} may both be meant: choose with "
                    f"--{option}"
                )
            if found:
                return self._once(found[0])
        return None

    def need(self, option: str, groups: Sequence[Sequence[str]], what: str, about: str = "") -> str:
        """Return the column the user named, else the one with a usual name, else raise."""
        found = self.chosen(option) or self.find(groups, option)
        if found is None:
            raise self.missing(option, what, about)
        return found

    def has(self, groups: Sequence[Sequence[str]]) -> bool:
        """Whether any of the usual names is there."""
        return any(usual in self.by_plain for group in groups for usual in group)

    def missing(self, option: str, what: str, about: str = "") -> TraceError:
        """The error that a column is to be named."""
        return TraceError(
            f"{self.origin}: no column is known to be {what}: name it with --{option}; it has {self._listed()}{about}"
        )

    def duration(self) -> tuple[str | None, int]:
        """Return the column of durations whose unit is known, and the unit in nanoseconds."""
        for usual, found in self.by_plain.items():
            unit = _DURATION.get(usual.removeprefix("duration")) if usual.startswith("duration") else None
            if unit:
                return self._once(found[0]), unit
        if self.by_plain.keys() >= _CLICKHOUSE:
            return self._once(self.by_plain["duration"][0]), 1
        return None, 1

    def _once(self, name: str) -> str:
        if self.numbers[name] > 1:
            raise TraceError(f"{self.origin}: the column {shown(repr(name))} is there {self.numbers[name]} times")
        return name

    def _near(self, name: str) -> Iterator[str]:
        yield from self.by_plain.get(_plain(name), ())
        for plain in get_close_matches(_plain(name), self.by_plain, n=3):
            yield from self.by_plain[plain]

    def _listed(self) -> str:
        if not self.names:
            return "no columns"
        some = ", ".join(repr(shown(name)) for name in self.names[:20])
        rest = len(self.names) - 20
        return f"the columns {some}" + (f" and {rest} more" if rest > 0 else "")


def _plain(name: str) -> str:
    """Return a name as it is compared."""
    return re.sub(r"[\s_-]", "", name).lower()

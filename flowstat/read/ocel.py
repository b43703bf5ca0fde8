"""OCEL 2.0 object-centric logs, JSON and SQLite: each object of one type is a case.

An event counts once for each object of the type that it is related to, however often it names the object. Other
objects, attributes, and relations between objects are not read.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from flowstat.errors import TraceError
from flowstat.read.mapping import Mapping
from flowstat.read.notices import Notices
from flowstat.read.opening import open_unpacked, packing
from flowstat.read.times import READABLE, Times, note_untimed
from flowstat.read.words import shown

__all__ = ["read_ocel"]

ROWS = 1 << 16

SQLITE = b"SQLite format 3\0"


@dataclass
class _Log:
    """What is read of a file: its objects' types, and its events in order."""

    types: dict[str, str] = field(default_factory=dict)
    events: list[_Event] = field(default_factory=list)


@dataclass(slots=True)
class _Event:
    number: int
    activity: str
    time: str | None
    objects: list[str]


class _Relation(msgspec.Struct):
    objectId: str


class _JsonEvent(msgspec.Struct):
    type: str
    time: str | None = None
    relationships: list[_Relation] | None = None


class _JsonObject(msgspec.Struct):
    id: str
    type: str


class _JsonLog(msgspec.Struct):
    events: list[msgspec.Raw]
    objects: list[msgspec.Raw]


def read_ocel(path: Path, origin: str, mapping: Mapping, notices: Notices) -> Iterator[pa.RecordBatch]:
    """Read an OCEL 2.0 log, JSON or SQLite, perhaps packed, as a sequential log of the objects of one type.

    `mapping.case` names the type, unless there is only one. The activity is the event's type. Events of no object of
    the type and objects without events are left out and noted.

    Bad records are objects without an id or a type, and events without a type, with a time that can't be read, or
    whose relations can't: they are numbered from 1 in the file.

    Yields
    ------
    pyarrow.RecordBatch
        Columns trace_id (the object) and name, dictionaries, and started_at, in the file's order; at least one batch,
        perhaps empty.

    Raises
    ------
    TraceError
        If the file can't be read or is not OCEL 2.0; if the type is not told or not there, with the types that are; for
        a bad record unless they are skipped.
    """
    with _unpacking(origin):
        with closing(open_unpacked(path, origin)) as file:
            sqlite = file.read(len(SQLITE)) == SQLITE
        packed = packing(path) is not None
    if not sqlite:
        log = _read_json(path, origin, notices)
    elif packed:
        # SQLite reads here and there in a file.
        with tempfile.NamedTemporaryFile(prefix="flowstat-ocel-", suffix=".sqlite") as copy:
            with _unpacking(origin), closing(open_unpacked(path, origin, notices)) as file:
                shutil.copyfileobj(file, copy)
                copy.flush()
            log = _read_sqlite(Path(copy.name), origin, notices)
    else:
        log = _read_sqlite(path, origin, notices)
        notices.advance(path.stat().st_size)
    kind = _chosen(log, origin, mapping)
    yield from _batches(log, kind, origin, notices)


@contextmanager
def _unpacking(origin: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError) as error:
        raise TraceError(f"can't read the trace {origin}: {getattr(error, 'strerror', None) or error}") from None


def _chosen(log: _Log, origin: str, mapping: Mapping) -> str:
    """Return the type of objects that are the cases."""
    numbers = Counter(log.types.values())
    listed = ", ".join(f"{shown(repr(kind))} ({n:,})" for kind, n in numbers.most_common(20))
    listed += ", ..." if len(numbers) > 20 else ""
    if not numbers:
        raise TraceError(f"{origin} has no objects: there are no cases")
    if mapping.case is not None:
        if mapping.case not in numbers:
            near = get_close_matches(mapping.case, numbers, n=1, cutoff=0.5)
            hint = f"did you mean {shown(repr(near[0]))}? " if near else ""
            raise TraceError(
                f"{origin} has no objects of type {shown(repr(mapping.case))} (--case): {hint}it has {listed}"
            )
        return mapping.case
    if len(numbers) > 1:
        raise TraceError(f"{origin} has several types of objects: choose with --case which are the cases: {listed}")
    return next(iter(numbers))


def _batches(log: _Log, kind: str, origin: str, notices: Notices) -> Iterator[pa.RecordBatch]:
    objects: list[str] = []
    activities: list[str] = []
    texts: list[str | None] = []
    numbers: list[int] = []
    seen: set[str] = set()
    clock = Times()
    apart = unknown = 0
    batches = 0
    for event in log.events:
        mine = [name for name in dict.fromkeys(event.objects) if log.types.get(name) == kind]
        if not mine:
            apart = apart or event.number
            notices.note(f"events of no object of type {shown(kind)!r}, left out", f"{origin}: event {event.number}")
        strange = sum(name not in log.types for name in event.objects)
        if strange:
            unknown += strange
            name = next(name for name in event.objects if name not in log.types)
            example = f"{origin}: event {event.number}, object {shown(repr(name))}"
            notices.note("relations to objects that are not in the file, left out", example, strange)
        seen.update(mine)
        objects += mine
        activities += [event.activity] * len(mine)
        texts += [event.time] * len(mine)
        numbers += [event.number] * len(mine)
        if len(objects) >= ROWS:
            yield _batch(objects, activities, texts, numbers, clock, origin, notices)
            batches += 1
            objects, activities, texts, numbers = [], [], [], []
    if objects or not batches:
        yield _batch(objects, activities, texts, numbers, clock, origin, notices)
    without = [name for name, its in log.types.items() if its == kind and name not in seen]
    if without:
        example = f"{origin}: {shown(repr(without[0]))}"
        notices.note(f"objects of type {shown(kind)!r} without any event, left out", example, len(without))


def _batch(
    objects: list[str],
    activities: list[str],
    texts: list[str | None],
    numbers: list[int],
    clock: Times,
    origin: str,
    notices: Notices,
) -> pa.RecordBatch:
    times, unreadable = clock.read(pa.array(texts, pa.string()))
    columns = [pa.array(values, pa.string()).dictionary_encode() for values in (objects, activities)]
    batch = pa.RecordBatch.from_arrays([*columns, times], names=["trace_id", "name", "started_at"])
    if unreadable is None:
        note_untimed(batch, origin, notices)
        return batch
    told: set[int] = set()
    for row in np.flatnonzero(unreadable).tolist():
        if numbers[row] not in told:
            what = f"the time {shown(repr(texts[row]))} can't be read: {READABLE}"
            notices.bad(f"{origin}: event {numbers[row]}", what)
        told.add(numbers[row])
    batch = batch.filter(pa.array(~unreadable))
    note_untimed(batch, origin, notices)
    return batch


def _read_json(path: Path, origin: str, notices: Notices) -> _Log:
    with _unpacking(origin), closing(open_unpacked(path, origin, notices)) as file:
        document = file.read()
    try:
        raw = msgspec.json.decode(document.removeprefix(b"\xef\xbb\xbf"), type=_JsonLog)
    except msgspec.ValidationError as error:
        old = b'"ocel:events"' in document
        hint = "it is OCEL 1.0: convert it" if old else "it has lists `objects` and `events`"
        raise TraceError(f"{origin} is not OCEL 2.0 ({error}): {hint}") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise TraceError(f"{origin} can't be read as JSON (cut off or damaged?): {error}") from None
    log = _Log()
    read_object, read_event = msgspec.json.Decoder(_JsonObject).decode, msgspec.json.Decoder(_JsonEvent).decode
    for number, text in enumerate(raw.objects, 1):
        try:
            found = read_object(text)
            _add_object(log, found.id, found.type)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            notices.bad(f"{origin}: object {number}", f"it can't be read: {error}")
        except ValueError as error:
            notices.bad(f"{origin}: object {number}", str(error))
    for number, text in enumerate(raw.events, 1):
        try:
            event = read_event(text)
            _add_event(log, number, event.type, event.time, [r.objectId for r in event.relationships or ()])
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            notices.bad(f"{origin}: event {number}", f"it can't be read: {error}")
        except ValueError as error:
            notices.bad(f"{origin}: event {number}", str(error))
    return log


def _read_sqlite(path: Path, origin: str, notices: Notices) -> _Log:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            connection.execute("pragma trusted_schema = off")
            log = _tables(connection, origin, notices)
    except (sqlite3.Error, ValueError, OverflowError) as error:
        raise TraceError(f"{origin} can't be read as OCEL 2.0 in SQLite: {shown(str(error), 200)}") from None
    return log


def _tables(connection: sqlite3.Connection, origin: str, notices: Notices) -> _Log:
    present = {name for (name,) in connection.execute("select name from sqlite_master")}
    missing = {"event", "object", "event_object", "event_map_type"} - present
    if missing:
        raise TraceError(f"{origin} is not OCEL 2.0 in SQLite: it has no table {', '.join(sorted(missing))}")
    log = _Log()
    for number, (name, kind) in enumerate(connection.execute("select ocel_id, ocel_type from object"), 1):
        try:
            _add_object(log, name, kind)
        except ValueError as error:
            notices.bad(f"{origin}: row {number} of object", str(error))
    times: dict[object, Any] = {}
    for (mapped,) in connection.execute("select distinct ocel_type_map from event_map_type").fetchall():
        table = f"event_{mapped}"
        if table not in present:
            raise TraceError(f"{origin} is not OCEL 2.0 in SQLite: it has no table {shown(table)}")
        quoted = table.replace('"', '""')
        times.update(connection.execute(f'select ocel_id, ocel_time from "{quoted}"'))
    related: dict[object, list[Any]] = {}
    for event, name in connection.execute("select ocel_event_id, ocel_object_id from event_object"):
        related.setdefault(event, []).append(name)
    for number, (event, kind) in enumerate(connection.execute("select ocel_id, ocel_type from event"), 1):
        try:
            time = times.get(event)
            text = time if isinstance(time, str | None) else str(time)
            _add_event(log, number, kind, text, [str(name) for name in related.get(event, ())])
        except ValueError as error:
            notices.bad(f"{origin}: event {number}", str(error))
    return log


def _add_object(log: _Log, name: object, kind: object) -> None:
    if isinstance(name, int):
        name = str(name)
    if not isinstance(name, str) or not isinstance(kind, str) or not name or not kind:
        raise ValueError("it needs an id and a type")
    log.types[name] = kind


def _add_event(log: _Log, number: int, kind: object, time: str | None, objects: list[str]) -> None:
    if not isinstance(kind, str) or not kind:
        raise ValueError("it has no type")
    log.events.append(_Event(number, kind, time, objects))

"""Canonical traces as XES: one trace a run, its events in the order of time.

`concept:name` is the node, `time:timestamp` when its handling started (or else when the message was sent, or the
handling ended), so that any tool reads a valid log. What XES has no word for is kept in attributes `flowstat:...`,
which `flowstat.read.xes` gives back; the log's attribute `flowstat:content` says that they are there. A message that no
arrow took and that has no name is an event named `(dropped)`; a node of that name is written `_x0028_dropped)`.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from flowstat.read.canonical import COLUMNS
from flowstat.read.drafts import DraftWriter

__all__ = ["DROPPED", "LINKS", "MARK", "NAME", "PREFIX", "TIME", "XesWriter", "decode", "encode"]

PREFIX: Final = "flowstat:"
MARK: Final = "flowstat:content"
LINKS: Final = "flowstat:links"
NAME: Final = "concept:name"
TIME: Final = "time:timestamp"
DROPPED: Final = "(dropped)"
_NAMED_DROPPED = "_x0028_dropped)"

TIMES = ("started_at", "sent_at", "ended_at")

_HEAD = f"""<?xml version="1.0" encoding="UTF-8"?>
<log xes.version="1849-2016" xes.features="" xmlns="http://www.xes-standard.org/">
\t<extension name="Concept" prefix="concept" uri="http://www.xes-standard.org/concept.xesext"/>
\t<extension name="Time" prefix="time" uri="http://www.xes-standard.org/time.xesext"/>
\t<global scope="trace">
\t\t<string key="{NAME}" value=""/>
\t</global>
\t<global scope="event">
\t\t<string key="{NAME}" value=""/>
\t</global>
\t<classifier name="Activity" keys="concept:name"/>
\t<string key="{MARK}" value="spans"/>
"""

# What XML 1.0 can't hold, and what looks like its escape.
_escaped = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|_(?=x[0-9A-F]{4}_)")
_escape = re.compile("_x([0-9A-F]{4})_")

_ENTITIES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
)


def encode(text: str) -> str:
    """Return a text without characters that XML 1.0 can't hold: each is written `_x0000_` with its number.

    An underscore that begins the like is itself written so; `decode` gives any text back.

    Examples
    --------
    >>> encode("a\\0_x0000_")
    'a_x0000__x005F_x0000_'
    """
    return _escaped.sub(lambda found: f"_x{ord(found[0]):04X}_", text)


def decode(text: str) -> str:
    """Return the text that `encode` made another of.

    Examples
    --------
    >>> decode("a_x0000__x005F_x0000_") == "a\\0_x0000_"
    True
    """
    return _escape.sub(lambda found: chr(int(found[1], 16)), text)


class XesWriter(DraftWriter):
    """Writes canonical batches as XES; packed with gzip if the name ends with `.gz`.

    A run's events need not come together, so rows are held in memory, and written on closing. When the block that it
    serves fails, nothing is written.

    Times have milliseconds in `time:timestamp`, or nine digits where that would lose some, and are whole nanoseconds in
    `flowstat:started_at` and the like. Characters that XML can't hold are escaped, see `encode`.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._batches: list[pa.RecordBatch] = []

    def write(self, batch: pa.RecordBatch) -> None:
        """Take rows in the canonical schema, perhaps with a column `links`."""
        self._batches.append(batch)

    def close(self) -> None:
        """Write the log.

        Raises
        ------
        OutputError
            If the place can't be written.
        """
        with self.writing():
            packed = self.path.name.lower().endswith(".gz")
            with gzip.open(self.draft, "wb", 6) if packed else self.draft.open("wb") as file:
                file.write(_HEAD.encode())
                for trace, rows in self._runs():
                    file.write(_trace(trace, rows).encode())
                file.write(b"</log>\n")
            self.settle()
        self._batches.clear()

    def _runs(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Yield the runs, in the order of their first rows, each with its events in the order of time."""
        if not self._batches:
            return
        table = pa.Table.from_batches([_plain(batch) for batch in self._batches]).combine_chunks()
        trace = table["trace_id"].combine_chunks().dictionary_encode()
        clocks = [table[name].combine_chunks().cast(pa.int64()) for name in TIMES]
        # Stable: rows of one time keep their order, and those of unknown time come last.
        time = pc.coalesce(*clocks)
        order = np.lexsort(
            (
                time.fill_null(0).to_numpy(),
                np.array(pc.is_null(time)),
                trace.indices.to_numpy(),
            )
        )
        names = trace.dictionary.to_pylist()
        ends = np.flatnonzero(np.diff(trace.indices.to_numpy()[order])) + 1
        for places in np.split(order, ends):
            if len(places):
                rows = table.take(pa.array(places)).to_pylist()
                yield names[trace.indices[int(places[0])].as_py()], rows


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch with texts for ids and words, whole nanoseconds for times, and links as JSON."""
    made = {}
    for name in COLUMNS:
        column = batch.column(batch.schema.get_field_index(name))
        made[name] = column.cast(pa.int64() if pa.types.is_timestamp(column.type) else pa.string())
    at = batch.schema.get_field_index("links")
    links = [None] * len(batch) if at < 0 else batch.column(at).to_pylist()
    made["links"] = pa.array(
        [
            None if some is None else orjson.dumps([[str(s["trace_id"]), str(s["span_id"])] for s in some]).decode()
            for some in links
        ],
        pa.string(),
    )
    return pa.RecordBatch.from_pydict(made)


def _trace(name: str, rows: list[dict[str, Any]]) -> str:
    lines = ["\t<trace>\n", _attribute("string", NAME, encode(name), "\t\t")]
    for row in rows:
        lines.append("\t\t<event>\n")
        name = DROPPED if row["name"] is None else encode(row["name"])
        lines.append(_attribute("string", NAME, _NAMED_DROPPED if name == DROPPED and row["name"] else name))
        time = next((row[name] for name in TIMES if row[name] is not None), None)
        if time is not None:
            lines.append(_attribute("date", TIME, _date(time)))
        for column in (*COLUMNS[1:], "links"):
            value = row[column]
            if value is None or column == "name":
                continue
            kind = "int" if column in TIMES else "string"
            lines.append(_attribute(kind, PREFIX + column, encode(str(value))))
        lines.append("\t\t</event>\n")
    lines.append("\t</trace>\n")
    return "".join(lines)


def _attribute(kind: str, key: str, value: str, indent: str = "\t\t\t") -> str:
    """Return an attribute; the value is encoded."""
    return f'{indent}<{kind} key="{key}" value="{value.translate(_ENTITIES)}"/>\n'


def _date(nanoseconds: int) -> str:
    """Return an instant as XML Schema writes it."""
    seconds, rest = divmod(nanoseconds, 10**9)
    whole = np.datetime64(seconds, "s").item()
    millis, finer = divmod(rest, 10**6)
    fraction = f"{rest:09}" if finer else f"{millis:03}"
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{fraction}+00:00"

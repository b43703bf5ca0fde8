"""Counting JSON Lines where every line is right, without reading them one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flowstat.estimate.counts import Counts
from flowstat.estimate.embedded import note_retries
from flowstat.estimate.stated import count_stated
from flowstat.read.database import database
from flowstat.read.lines import load_lines, view_lines
from flowstat.read.notices import Notices

if TYPE_CHECKING:
    from flowstat.read.traces import TraceFile

__all__ = ["count_lines"]


def count_lines(file: TraceFile, memory: int | None = None) -> Counts | None:
    """Count a JSON Lines trace in a database; None if a line is not as it should be, or its ids need a closer look.

    Parameters
    ----------
    file
        A trace of the format `jsonl`.
    memory
        Bytes that DuckDB may hold in memory.

    Raises
    ------
    TraceError
        If an event is among its own ancestors, or a send pattern is none.
    """
    notices = Notices()
    with database(memory) as connection:
        said = load_lines(connection, "ids", file.parts)
        if said is None:
            return None
        counts = count_stated(connection, "ids", file.origin, notices, said)
        if counts is None:
            return None
        if counts.errors:
            ((kind,),) = connection.execute("select typeof(trace_id) from ids limit 1").fetchall()
            view_lines(connection, "words", file.parts, kind)
            ids = "uint64" if kind == "UBIGINT" else "string"
            types = dict.fromkeys(("trace_id", "span_id", "parent_id"), ids) | {"name": "string", "status": "string"}
            note_retries(connection, "words", types, notices)
        return replace(counts, files=file.origins, problems=notices.problems)

"""Counting JSON Lines where every line is right, without reading them one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flowstat.estimate.counts import Counts
from flowstat.estimate.embedded import note_retries
from flowstat.estimate.stated import count_stated
from flowstat.read.database import database
from flowstat.read.lines import QUOTED, load_lines
from flowstat.read.notices import Notices

if TYPE_CHECKING:
    from flowstat.read.traces import TraceFile

__all__ = ["count_lines"]

TABLE = "lines_in_words"


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
        if not load_lines(connection, TABLE, file.parts):
            return None
        columns = {name: kind for name, kind, *_ in connection.execute(f"describe {TABLE}").fetchall()}
        unsaid = connection.execute(f"select 1 from {TABLE} where status = 'dropped' and parent is null limit 1")
        if "links" in columns or unsaid.fetchall():
            return None
        counts = count_stated(connection, QUOTED, file.origin, notices, quoted=True)
        if counts is None:
            return None
        if counts.errors:
            ids = "uint64" if columns["trace_id"] == "UBIGINT" else "string"
            types = dict.fromkeys(("trace_id", "span_id", "parent_id"), ids) | {"name": "string", "status": "string"}
            note_retries(connection, TABLE, types, notices)
        return replace(counts, files=file.origins, problems=notices.problems)

"""How foreign traces are read: which column means what, what is a node, what is done with bad records."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from fractions import Fraction

from flowstat.errors import TraceError
from flowstat.read.words import shown

__all__ = ["Mapping", "duration"]

UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}


@dataclass(frozen=True)
class Mapping:
    """What the reader of traces is told; all of it is optional.

    Attributes
    ----------
    case, activity, time
        Columns of a sequential log (of OCEL: `case` is the object type).
    trace, span, parent, name
        Columns of a table of spans; with `time`, and with `activity` and `case` unset.
    node
        Template of a node's name, `{service}.{name}`: fields in braces are what the format knows of a span
        (see `flowstat.read.nodes`), its attributes, or columns of the table.
    cut
        Nanoseconds before the last time of the traces: an event that sent nothing and is later than that may
        have been cut off by the window's edge; it is pending, not ended.
    skip_bad
        Count records that can't be read and go on.
    """

    case: str | None = None
    activity: str | None = None
    time: str | None = None
    trace: str | None = None
    span: str | None = None
    parent: str | None = None
    name: str | None = None
    node: str | None = None
    cut: int | None = None
    skip_bad: bool = False

    @property
    def given(self) -> dict[str, object]:
        """The options that were set."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name)}


def duration(text: str) -> int:
    """Return a duration such as `90s`, `1.5h` or `250ms` in nanoseconds.

    Raises
    ------
    TraceError
        If the text is no duration.

    Examples
    --------
    >>> duration("1.5h")
    5400000000000
    """
    found = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*(ns|us|ms|s|m|h|d)\s*", text)
    if found is None:
        raise TraceError(
            f"not a duration: {shown(repr(text), 40)}; write a number with ns, us, ms, s, m, h or d, such as 90s"
        )
    nanoseconds = int(Fraction(found[1]) * UNITS[found[2]])
    if nanoseconds >= 2**62:
        raise TraceError(f"{shown(text, 40)} is longer than traces can be: 146 years")
    return nanoseconds

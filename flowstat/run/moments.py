"""Times as the loops count them: whole nanoseconds, as many as a trace can keep."""

from __future__ import annotations

__all__ = ["LAST", "LONGEST", "SECOND", "nanoseconds"]

from flowstat.errors import RunError

SECOND = 1_000_000_000
"""In nanoseconds, in which the loops count."""

LONGEST = 4_000_000_000 * SECOND
"""No wait is longer than this, 126 years: a trace keeps times up to the year 2262."""

LAST = 2**63 - 1
"""The last time that a trace can keep, in nanoseconds since 1970."""


def nanoseconds(seconds: object) -> int:
    """Return a time to wait in nanoseconds.

    Raises
    ------
    RunError
        If it is none: a number of seconds from 0 to `LONGEST`.

    Examples
    --------
    >>> nanoseconds(0.5)
    500000000
    """
    if isinstance(seconds, (int, float)) and 0 <= seconds <= LONGEST // SECOND:
        return round(seconds * SECOND)
    # A number of 5,000 digits has no `repr`.
    told = repr(seconds) if not isinstance(seconds, int) else "a larger one" if seconds > 0 else "one below"
    raise RunError(f"a time to wait is a number of seconds, 0 or more and at most {LONGEST // SECOND:,}, not {told}")

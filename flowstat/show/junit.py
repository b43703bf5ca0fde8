"""Checks as JUnit XML, which build servers read: a test case for each property."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from flowstat.errors import OutputError
from flowstat.explain.checked import Checked, Checks
from flowstat.read.words import visible
from flowstat.results import number

__all__ = ["junit", "write_junit"]


def junit(checks: Checks, suite: str = "flowstat", *, strict: bool = False) -> str:
    """Return checks as JUnit XML, the same for the same checks: it has no times.

    Parameters
    ----------
    checks
        From `flowstat.check`.
    suite
        What the test suite is called, such as the graph's name.
    strict
        A property that can't be told is a failure, not a skipped test.

    Examples
    --------
    >>> text = junit(Checks((Checked("soon", 'P>=0.9 [ F<=3 "ok" ]', "holds", 0.95),), 0.95))
    >>> '<testcase name="soon" classname="flowstat" time="0">' in text
    True
    """
    failed = [c for c in checks.checks if _fails(c, strict)]
    skipped = [c for c in checks.checks if c.verdict == "cannot tell" and not strict]
    numbers = {"tests": len(checks.checks), "failures": len(failed), "errors": 0, "skipped": len(skipped), "time": 0}
    attributes = {"name": visible(suite), **{name: str(value) for name, value in numbers.items()}}
    root = ElementTree.Element("testsuites", attributes)
    within = ElementTree.SubElement(root, "testsuite", attributes)
    for check in checks.checks:
        title = visible(check.name or check.property)
        case = ElementTree.SubElement(within, "testcase", name=title, classname=visible(suite), time="0")
        said = _said(check)
        if _fails(check, strict):
            failure = ElementTree.SubElement(case, "failure", message=said, type=check.verdict)
            failure.text = visible(check.property)
        elif check.verdict == "cannot tell":
            ElementTree.SubElement(case, "skipped", message=said)
        ElementTree.SubElement(case, "system-out").text = f"{visible(check.property)}\n{said}\n"
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def write_junit(checks: Checks, path: str | Path, suite: str = "flowstat", *, strict: bool = False) -> None:
    """Write checks as JUnit XML: see `junit`.

    Raises
    ------
    OutputError
        If the file can't be written.
    """
    try:
        Path(path).write_text(junit(checks, suite, strict=strict), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"can't write {path}: {error.strerror or error}") from None


def _fails(check: Checked, strict: bool) -> bool:
    return check.verdict == "fails" or (strict and check.verdict == "cannot tell")


def _said(check: Checked) -> str:
    """Return the verdict with its number."""
    parts: list[str] = [check.verdict]
    if check.value is not None:
        parts.append(f"the number is {number(check.value)}")
    if check.low is not None and check.high is not None:
        parts.append(f"between {number(check.low)} and {number(check.high)}")
    reason = f": {check.reason}" if check.reason else ""
    more = f"; about {check.more_runs:,} more runs would tell, if it stays as it is" if check.more_runs else ""
    return visible(", ".join(parts) + reason + more)

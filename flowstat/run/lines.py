"""Lines that components read and write, and the messages that they are."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import orjson

from flowstat.errors import RunError
from flowstat.read.graph import Component
from flowstat.read.words import quote_argument, shown

__all__ = ["Line", "component_name", "line_of", "message_of"]

DEEPEST = 100
"""JSON that is nested more deeply is taken as text: not all that a body may come to can hold it."""


class Line(NamedTuple):
    """A line that came from a program: of a source (`node` is a target), or of a wire (`node` is its own).

    `life` counts how often the program was started; with `over` there is no line, but its program has ended for good:
    well, or `failed`.
    """

    node: str
    key: str = ""
    body: object = None
    wire: bool = False
    life: int = 0
    over: bool = False
    failed: bool = False


def message_of(line: str) -> tuple[str, object]:
    """Return key and body of an output line: a JSON object of `body` and perhaps `key`, or else the text itself.

    JSON nested more than 100 times is text, too.

    Examples
    --------
    >>> message_of('{"key": "eu.paid", "body": 5}'), message_of("hello")
    (('eu.paid', 5), ('', 'hello'))
    """
    if line.startswith("{") and not _is_deep(line):
        with contextlib.suppress(orjson.JSONDecodeError):
            told = orjson.loads(line)
            if "body" in told and told.keys() <= {"key", "body"} and isinstance(told.get("key", ""), str):
                return told.get("key", ""), told["body"]
    return "", line


def line_of(key: str, body: object) -> str:
    """Return the input line of a message: a text as it is, anything else as JSON with its key.

    Raises
    ------
    RunError
        If the body is neither text nor JSON.
    """
    if isinstance(body, str) and "\n" not in body and not key:
        return body
    try:
        return orjson.dumps({"key": key, "body": body}).decode()
    except orjson.JSONEncodeError as error:
        raise RunError(f"a component takes texts and JSON, not {shown(repr(body))}: {error}") from None


def component_name(component: Component) -> str:
    """Return a component as the graph file has it."""
    return f"[ {' '.join(map(quote_argument, component.command))} ]"


def _is_deep(line: str) -> bool:
    """Whether a line of JSON may be nested too deeply; brackets in its texts count, too, where there are many."""
    if line.count("[") + line.count("{") <= DEEPEST:
        return False
    depth = deepest = 0
    inside = escaped = False
    for character in line:
        if inside:
            inside = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            inside = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest > DEEPEST

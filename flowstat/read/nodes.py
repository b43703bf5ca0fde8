"""What is a node for a span: its destination, its service and operation, or what a template says.

A template is text with fields in braces, `{service}.{name}`; `{{` and `}}` stand for braces. The fields of a
span are `service`, `name`, `kind` (`server`, `client`, `producer`, `consumer`, `internal`), `scope` (the library that
recorded it), `destination` (of its message), `key` (routing key), `operation` (of messaging: `process`, `receive`...),
and every attribute of the span, or else of its resource, by its own name: `{http.route}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from flowstat.errors import TraceError
from flowstat.read.words import shown

__all__ = [
    "KINDS",
    "MESSAGING",
    "TEMPORARY",
    "Source",
    "Template",
    "destination",
    "node_of",
    "operation",
    "parse_template",
    "routing_key",
    "source_of",
    "template_of",
]

KINDS = ("", "internal", "server", "client", "producer", "consumer")
"""Kinds of spans, in the order of OpenTelemetry's numbers."""

TEMPORARY = "(temporary)"
"""The node of all destinations that were made for one use: their names would each be a node of its own."""

# Attributes of messaging, the newest name first; the last ones are those of Zipkin's instrumentation (brave).
_TEMPLATE = ("messaging.destination.template",)
_TEMPORARY = ("messaging.destination.temporary", "messaging.destination.anonymous", "messaging.temp_destination")
_DESTINATION = (
    "messaging.destination.name",
    "messaging.destination",
    "rabbit.queue",
    "kafka.topic",
    "jms.queue",
    "jms.topic",
)
_KEY = ("messaging.rabbitmq.destination.routing_key", "messaging.rabbitmq.routing_key", "rabbit.routing_key")
_OPERATION = ("messaging.operation.type", "messaging.operation", "messaging.operation.name")

_WORKER = ("service.instance.id", "host.name", "k8s.pod.name")

MESSAGING = frozenset((*_TEMPLATE, *_TEMPORARY, *_DESTINATION, *_KEY, *_OPERATION))
"""The attributes that `destination`, `routing_key` and `operation` look at."""

_HANDLING = frozenset(("process", "receive", "deliver"))

_piece = re.compile(r"(\{\{|\}\})|\{([^{}]*)\}|([{}])|([^{}]+)")


@dataclass(frozen=True)
class Template:
    """A parsed template of names.

    Attributes
    ----------
    fields
        The fields, in the order of their first appearance.
    pieces
        Each field with the text before it; the last is the text after all, with the field None.
    """

    fields: tuple[str, ...]
    pieces: tuple[tuple[str, str | None], ...]

    def name(self, values: Mapping[str, str]) -> str:
        """Return the name that the fields' values make.

        A field that is missing or empty gives nothing, and the text that joins two fields stands only where it has
        a value on its right and one somewhere on its left. Text before the first field and after the last always
        stands, except that the name is empty if all fields are.

        Examples
        --------
        >>> parse_template("{service}.{name}").name({"service": "shop", "name": "order"})
        'shop.order'
        >>> parse_template("{service}.{name}").name({"name": "order"})
        'order'
        """
        parts: list[str] = []
        found = False
        for place, (text, field) in enumerate(self.pieces):
            if field is None:
                parts.append(text)
                continue
            value = values.get(field)
            if place == 0 or (value and found):
                parts.append(text)
            if value:
                parts.append(value)
                found = True
        return "".join(parts) if found else ""


def parse_template(text: str) -> Template:
    """Parse a template such as `{service}.{name}`.

    Raises
    ------
    TraceError
        If a brace has no partner, a field has no name, or there is no field.

    Examples
    --------
    >>> parse_template("{service}/{http.route}").fields
    ('service', 'http.route')
    """
    pieces: list[tuple[str, str | None]] = []
    before = ""
    for found in _piece.finditer(text):
        brace, field, stray, plain = found.groups()
        if stray:
            raise _wrong(text, f"the brace at character {found.start() + 1} has no partner (write {stray * 2} for one)")
        if field is None:
            before += brace[0] if brace else plain
            continue
        if not field.strip():
            raise _wrong(text, f"the field at character {found.start() + 1} has no name")
        pieces.append((before, field.strip()))
        before = ""
    if not pieces:
        raise _wrong(text, "it has no field, so that everything would be one node")
    return Template(tuple(dict.fromkeys(f for _, f in pieces if f)), (*pieces, (before, None)))


def _wrong(text: str, what: str) -> TraceError:
    return TraceError(f"not a template of node names: {shown(repr(text), 80)}: {what}; such as '{{service}}.{{name}}'")


def template_of(text: str | None) -> Template | None:
    """Parse a template if one is given; see `parse_template`."""
    return None if text is None else parse_template(text)


@dataclass(frozen=True)
class Source:
    """What is the same for all spans of one process: its service, who it is, and its attributes."""

    service: str
    worker: str | None
    tags: Mapping[str, str]


def source_of(tags: Mapping[str, str], service: str | None = None, workers: Iterable[str] = _WORKER) -> Source:
    """Return what the attributes of a resource say.

    The worker is the first of `service.instance.id`, `host.name`, `k8s.pod.name` (or of `workers`) that is there.
    """
    return Source(service or tags.get("service.name", ""), _first(tags, workers) or None, tags)


def _first(tags: Mapping[str, str], keys: Iterable[str]) -> str:
    for key in keys:
        value = tags.get(key)
        if value:
            return value
    return ""


def destination(tags: Mapping[str, str]) -> str:
    """Return the queue or topic that a span's attributes name, empty if none.

    `messaging.destination.template` comes first; then a destination that is marked as temporary or anonymous is
    `(temporary)`; then `messaging.destination.name`, `messaging.destination` (as it was called until 2023),
    and `rabbit.queue`, `kafka.topic`, `jms.queue`, `jms.topic` of Zipkin's instrumentation.

    Examples
    --------
    >>> destination({"messaging.destination.name": "orders"})
    'orders'
    """
    template = _first(tags, _TEMPLATE)
    if template:
        return template
    if any(tags.get(key) == "true" for key in _TEMPORARY):
        return TEMPORARY
    return _first(tags, _DESTINATION)


def routing_key(tags: Mapping[str, str]) -> str | None:
    """Return the routing key that a span's attributes name; an empty one is a key too.

    It is `messaging.rabbitmq.destination.routing_key`, `messaging.rabbitmq.routing_key` or `rabbit.routing_key`.
    The keys of Kafka's messages choose a partition, not who gets them: they are none.
    """
    return next((tags[key] for key in _KEY if key in tags), None)


def operation(tags: Mapping[str, str]) -> str:
    """Return what a messaging span does (`process`, `receive`, `publish`...), empty if it does not say."""
    return _first(tags, _OPERATION)


def node_of(
    template: Template | None, source: Source, name: str, kind: str, scope: str, tags: Mapping[str, str]
) -> str:
    """Return the node that a span is an event of; empty if nothing is known.

    Without a template: a span of kind `consumer`, or whose `messaging.operation` (`messaging.operation.type`) is
    `process`, `receive` or `deliver`, is an event of its `destination` where one is known. Any other span is one of
    `{service}.{name}`, of what is known of the two.

    Parameters
    ----------
    template
        See `parse_template`.
    source
        The process that recorded the span.
    name, kind, scope
        Of the span; `kind` is one of `KINDS`.
    tags
        Attributes of the span, as texts.
    """
    if template is None:
        if kind == "consumer" or operation(tags) in _HANDLING:
            target = destination(tags)
            if target:
                return target
        return f"{source.service}.{name}" if source.service and name else source.service or name
    values = {}
    for field in template.fields:
        known = _FIELDS.get(field)
        if known is not None:
            values[field] = known(source, name, kind, scope, tags)
        else:
            values[field] = tags.get(field) or source.tags.get(field, "")
    return template.name(values)


_FIELDS: dict[str, Callable[[Source, str, str, str, Mapping[str, str]], str]] = {
    "service": lambda source, name, kind, scope, tags: source.service,
    "name": lambda source, name, kind, scope, tags: name,
    "kind": lambda source, name, kind, scope, tags: kind,
    "scope": lambda source, name, kind, scope, tags: scope,
    "destination": lambda source, name, kind, scope, tags: destination(tags),
    "key": lambda source, name, kind, scope, tags: routing_key(tags) or "",
    "operation": lambda source, name, kind, scope, tags: operation(tags),
}

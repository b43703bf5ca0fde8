"""The documents of OTLP/JSON as types: what is in none of them is skipped, not decoded."""

from __future__ import annotations

from collections.abc import Container

import msgspec
import orjson
from msgspec import Raw, Struct

from flowstat.read.nodes import KINDS
from flowstat.read.span_rows import DamagedError, tag_text

__all__ = [
    "DAMAGES",
    "FAILED",
    "KIND_WORDS",
    "SENDING",
    "Link",
    "RawDocument",
    "RawResourceSpans",
    "Span",
    "decode_tags",
    "take_document",
    "take_raw_documents",
    "take_resource",
    "take_span",
]

FAILED = frozenset((2, "2", "STATUS_CODE_ERROR", "ERROR"))
"""Codes of a status that is an error."""

KIND_WORDS: dict[int | str | None, str] = {
    **dict(enumerate(KINDS)),
    **{str(number): kind for number, kind in enumerate(KINDS)},
    **{prefix + kind.upper(): kind for kind in KINDS[1:] for prefix in ("SPAN_KIND_", "")},
}
"""Kinds of spans as documents have them, to those of `flowstat.read.nodes.KINDS`."""

SENDING = frozenset(key for key, kind in KIND_WORDS.items() if kind in ("producer", "consumer"))
"""Kinds as documents have them that are about messages."""

NOTHING = Raw(b"")

DAMAGES = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError, DamagedError)
"""What decoding raises, and what follows from odd values."""


class Link(Struct, rename="camel", gc=False):
    """The span that another one was caused by, beside its parent."""

    trace_id: str = ""
    span_id: str = ""


class _Status(Struct, gc=False):
    code: int | str | None = 0


class Span(Struct, rename="camel", gc=False):
    """A span; times may be written as numbers or texts of digits, which lax decoding makes one."""

    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str | None = None
    name: str | None = None
    kind: int | str | None = 0
    start_time_unix_nano: int | None = None
    end_time_unix_nano: int | None = None
    status: _Status | None = None
    attributes: Raw = NOTHING
    links: list[Link] | None = None


class _Scope(Struct, gc=False):
    name: str | None = None


class _ScopeSpans(Struct, rename="camel", gc=False):
    scope: _Scope | None = None
    instrumentation_library: _Scope | None = None
    spans: list[Span] | None = None


class _ResourceSpans(Struct, rename="camel", gc=False):
    resource: Raw = NOTHING
    scope_spans: list[_ScopeSpans] | None = None
    instrumentation_library_spans: list[_ScopeSpans] | None = None


class Document(Struct, rename="camel", gc=False):
    """A document in the usual spelling."""

    resource_spans: list[_ResourceSpans] | None = None
    snake_spans: Raw = msgspec.field(name="resource_spans", default=NOTHING)
    batches: Raw = NOTHING


class _RawScopeSpans(Struct):
    scope: _Scope | None = None
    old: _Scope | None = msgspec.field(name="instrumentationLibrary", default=None)
    snake_old: _Scope | None = msgspec.field(name="instrumentation_library", default=None)
    spans: list[Raw] | None = None

    @property
    def scope_name(self) -> str:
        """The name of the library that recorded the spans."""
        scope = self.scope or self.old or self.snake_old
        return (scope and scope.name) or ""


class RawResourceSpans(Struct):
    """The spans of one resource, as they stand."""

    resource: Raw = NOTHING
    camel: list[_RawScopeSpans] | None = msgspec.field(name="scopeSpans", default=None)
    snake: list[_RawScopeSpans] | None = msgspec.field(name="scope_spans", default=None)
    old: list[_RawScopeSpans] | None = msgspec.field(name="instrumentationLibrarySpans", default=None)
    snake_old: list[_RawScopeSpans] | None = msgspec.field(name="instrumentation_library_spans", default=None)

    @property
    def scopes(self) -> list[_RawScopeSpans]:
        """The scopes, however they are spelled."""
        return [s for scopes in (self.camel, self.snake, self.old, self.snake_old) for s in scopes or ()]


class RawDocument(Struct):
    """A document in any spelling, its spans as they stand: to find the one that is wrong."""

    camel: list[RawResourceSpans] | None = msgspec.field(name="resourceSpans", default=None)
    snake: list[RawResourceSpans] | None = msgspec.field(name="resource_spans", default=None)
    batches: list[RawResourceSpans] | None = None

    @property
    def resources(self) -> list[RawResourceSpans] | None:
        """The resources with their spans; None in a document that is not about spans."""
        lists = [r for r in (self.camel, self.snake, self.batches) if r is not None]
        return [r for resources in lists for r in resources] if lists else None


class _Value(Struct, rename="camel", gc=False):
    string_value: str | None = None
    int_value: int | None = None
    bool_value: bool | None = None
    double_value: float | str | None = None
    bytes_value: str | None = None
    array_value: Raw = NOTHING
    kvlist_value: Raw = NOTHING

    def text(self) -> str:
        values = (self.string_value, self.int_value, self.bool_value, self.double_value, self.bytes_value)
        value = next((v for v in values if v is not None), None)
        if value is None:
            raw = self.array_value or self.kvlist_value
            return tag_text(orjson.loads(bytes(raw))) if raw else ""
        return value if isinstance(value, str) else msgspec.json.encode(value).decode()


class _Attribute(Struct, gc=False):
    key: str
    value: _Value | None = None


class _RawAttribute(Struct):
    key: str
    value: Raw = NOTHING


class _Resource(Struct, gc=False):
    attributes: Raw = NOTHING


_take_raw = msgspec.json.Decoder(RawDocument | list[RawDocument]).decode
_take_resource = msgspec.json.Decoder(_Resource | None).decode
_take_attributes = msgspec.json.Decoder(list[_Attribute] | None, strict=False).decode
_take_raw_attributes = msgspec.json.Decoder(list[_RawAttribute] | None).decode
_take_value = msgspec.json.Decoder(_Value | None, strict=False).decode
_take_span = msgspec.json.Decoder(Span, strict=False).decode
_take_object = msgspec.json.Decoder(dict[str, Raw]).decode
_take_objects = msgspec.json.Decoder(list[Raw] | None).decode

# The fields in the spelling of the protocol's definition, which JSON may have as well.
_usual = {f.name: f.encode_name for struct in (Span, Link, _Value) for f in msgspec.structs.fields(struct)}


take_document = msgspec.json.Decoder(Document, strict=False).decode
"""Decodes a document in the usual spelling."""


def take_raw_documents(text: bytes) -> list[RawDocument]:
    """Decode a document, or a list of them, in any spelling, the spans as they stand."""
    found = _take_raw(text)
    return found if isinstance(found, list) else [found]


def take_resource(text: bytes) -> dict[str, str]:
    """Return the attributes of a resource, see `decode_tags`."""
    found = _take_resource(text)
    return decode_tags(found.attributes) if found else {}


def take_span(raw: Raw) -> Span:
    """Decode one span in the spelling that it has (`spanId` or `span_id`)."""
    span = _take_span(raw)
    if span.span_id:
        return span
    fields = _respelled(raw)
    if "links" in fields:
        links = _take_objects(fields["links"]) or ()
        fields["links"] = Raw(msgspec.json.encode([_respelled(link) for link in links]))
    return _take_span(msgspec.json.encode(fields))


def _respelled(raw: Raw) -> dict[str, Raw]:
    return {_usual.get(key, key): value for key, value in _take_object(raw).items()}


def decode_tags(raw: Raw, wanted: Container[str] | None = None) -> dict[str, str]:
    """Return attributes (the wanted ones) as texts: numbers in decimal, booleans `true` and `false`, lists as JSON.

    Raises
    ------
    DamagedError
        If they are no attributes.
    """
    if not raw:
        return {}
    try:
        tags = _texts(_take_attributes(raw), wanted)
        if "" in tags.values() and b'_value"' in bytes(raw):
            values = {a.key: a.value for a in _take_raw_attributes(raw) or ()}
            for key in [key for key, text in tags.items() if not text and values[key]]:
                value = _take_value(msgspec.json.encode(_respelled(values[key])))
                tags[key] = value.text() if value else ""
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DamagedError(f"its attributes can't be read: {error}") from None
    return tags


def _texts(attributes: list[_Attribute] | None, wanted: Container[str] | None) -> dict[str, str]:
    # A loop over the values' kinds for each would take three times as long: most are texts.
    return {
        a.key: v.string_value if (v := a.value) and v.string_value is not None else v.text() if v else ""
        for a in attributes or ()
        if wanted is None or a.key in wanted
    }

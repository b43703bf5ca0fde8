"""Which columns of a table make the names of its nodes."""

from __future__ import annotations

from collections.abc import Sequence

from flowstat.errors import TraceError
from flowstat.read.columns import Columns
from flowstat.read.mapping import Mapping
from flowstat.read.nodes import Template, template_of
from flowstat.read.words import shown

__all__ = ["fields_of", "node_template"]


def node_template(columns: Columns, mapping: Mapping) -> Template | None:
    """Return the template of a table's nodes: the user's, or of service and name; None where the name is the node."""
    return template_of(mapping.node or ("{service}.{name}" if columns.service or columns.pod else None))


def fields_of(columns: Columns, template: Template | None, names: Sequence[str], origin: str) -> dict[str, str]:
    """Return the column of each field of the template; without one, of the name.

    Raises
    ------
    TraceError
        If a field is no column, or its column is there several times.
    """
    own = columns.activity or columns.name
    if template is None:
        assert own is not None
        return {"name": own}
    known = {"service": columns.service or (columns.worker if columns.pod else None), "name": own}
    known |= {"worker": columns.worker, "key": columns.key, "status": columns.status}
    found: dict[str, str] = {}
    for field in template.fields:
        column = known.get(field) or (field if field in names else None)
        if column is None:
            some = ", ".join(repr(shown(name)) for name in names[:20]) + (", ..." if len(names) > 20 else "")
            raise TraceError(
                f"{origin} has no column {shown(repr(field))}, a field of the template of nodes; it has {some}"
            )
        if names.count(column) > 1:
            raise TraceError(f"{origin}: the column {shown(repr(column))} is there {names.count(column)} times")
        found[field] = column
    return found

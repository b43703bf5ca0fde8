r"""How properties are written: as PRISM and Storm write PCTL, with nodes by their names in double quotes.

    P>=0.99 [ F "shipped" ]                    a run comes to shipped with a chance of at least 0.99
    P=? [ !"declined" U "shipped" ]            how likely is it that it does, and is not at declined before?
    P>0 [ F<=20 "shipped" | "refunded" ]       within 20 steps, to one of the two
    P>=0.9 [ F{"time"}<=2.5 "shipped" ]        within 2.5 seconds; also written F[t<=2.5]
    R{"events"}<=12 [ F "end" ]                the expected number of events until the run ends
    R{"time"}=? [ F "shipped" ]                the expected seconds until then
    S<0.2 [ "idle" ]                           the share of its steps that a run spends at idle in the long run
    P>=1 [ G ("paid" => P>=0.9 [ F "sent" ]) ] from wherever a run is at paid, it is likely to come to sent

Paths: `X` next, `F` in the end, `G` always, `U` until, `W` weak until, `R` release, all but `X` with a window of
steps, if need be: `<=k`, `<k`, `>=k`, `>k`, `=k`, `[a,b]` (of `W` and `R` from now on only). States: `"node"`,
`"init"` (where runs start), `"end"` or `"deadlock"` (the run is over), `true`, `false`, `!`, `&`, `|`, `=>`, `<=>`,
brackets, and operators again. `!` binds most tightly, then `&`, `|`, `=>`, `<=>`; `F`, `G` and `X` take all that
follows, as in PRISM and Storm; `U`, `W` and `R` bind least. A node that is called init, end or deadlock hides that
label; `"(end)"` is always the end. Bounds are decimals or fractions (`>=99/100`). `R` adds up what comes before the
goal, and is infinite where a run may never come there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flowstat.errors import SHOWN_AT_ONCE, AnalysisError
from flowstat.explain.property import Property
from flowstat.explain.property_parser import Parser
from flowstat.explain.property_tokens import Unreadable
from flowstat.read.placing import placed
from flowstat.read.words import shown

__all__ = ["parse_properties", "parse_property", "read_properties", "refused"]


def parse_property(text: str, name: str = "", origin: str = "<property>") -> Property:
    """Read one property, with or without a name before it (`name: P>=0.99 [ F "shipped" ]`).

    Parameters
    ----------
    text
        As `flowstat.explain.property_text` says; it may have several lines.
    name
        Its name, if none is written.
    origin
        What errors call the text.

    Raises
    ------
    AnalysisError
        If it can't be read: with line and column, and a caret under it.

    Examples
    --------
    >>> parse_property('soon: P>=0.9 [ F<=20 "shipped" ]').name
    'soon'
    """
    if not isinstance(text, str):
        raise AnalysisError(f"a property is a text such as 'P>=0.99 [ F \"shipped\" ]', not {shown(repr(text))}")
    _storable(text, origin)
    try:
        found = Parser(text, 0, len(text)).read(name, origin)
    except Unreadable as mistake:
        raise refused(text, [(mistake.position, mistake.message)], origin) from None
    if found is None:
        raise AnalysisError("there is no property in the text: write one such as 'P>=0.99 [ F \"shipped\" ]'")
    return found


def parse_properties(text: str, origin: str = "<text>") -> tuple[Property, ...]:
    """Read properties, one a line, with names or without; `#` and `//` start comments.

    Raises
    ------
    AnalysisError
        With all mistakes of the text at once; also if two have the same name.

    Examples
    --------
    >>> [p.name for p in parse_properties('# goals\\nends: P>=1 [ F "end" ]\\nP=? [ F "lost" ]')]
    ['ends', '']
    """
    _storable(text, origin)
    found: list[Property] = []
    mistakes: list[tuple[int, str]] = []
    lines: dict[str, int] = {}
    at = 0
    for number, line in enumerate(text.split("\n"), 1):
        try:
            made = Parser(text, at, at + len(line)).read("", origin)
        except Unreadable as mistake:
            mistakes.append((min(mistake.position, at + len(line.rstrip())), mistake.message))
            made = None
        if made is not None and made.name in lines:
            mistakes.append((at, f"line {lines[made.name]} already has a property called {shown(made.name)!r}"))
        elif made is not None:
            found.append(made)
            if made.name:
                lines[made.name] = number
        at += len(line) + 1
    if mistakes:
        raise refused(text, mistakes, origin)
    return tuple(found)


def _storable(text: str, origin: str) -> None:
    """Refuse a text that can't be written anywhere."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        whole = text.encode(errors="replace").decode()
        raise refused(whole, [(error.start, "half a surrogate pair is no text")], origin) from None


def read_properties(path: str | Path) -> tuple[Property, ...]:
    """Read a file of properties: see `parse_properties`.

    Raises
    ------
    AnalysisError
        If the file can't be read, is not UTF-8, holds no property, or one that can't be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise AnalysisError(f"can't read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise AnalysisError(f"{path} is no UTF-8 text (byte {error.start}): save it as UTF-8") from None
    found = parse_properties(text, str(path))
    if not found:
        raise AnalysisError(f'{path} holds no property: write one a line, such as ends: P>=1 [ F "end" ]')
    return found


def refused(text: str, mistakes: Sequence[tuple[int, str]], origin: str) -> AnalysisError:
    """Return the error about some places of a text."""
    found = placed(text, mistakes)
    said = [f"{origin}:{m.line}:{m.column}: {m.message}\n{m.excerpt}" for m in found[:SHOWN_AT_ONCE]]
    if len(found) > SHOWN_AT_ONCE:
        said.append(f"... and {len(found) - SHOWN_AT_ONCE} more mistakes in {origin}")
    return AnalysisError("\n".join(said))

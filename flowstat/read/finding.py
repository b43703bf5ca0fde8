"""Traces found by name: files, directories, patterns and pipes, each file once; what workers wrote together as one."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flowstat.errors import TraceError
from flowstat.read.formats import SUFFIXES, recognise
from flowstat.read.opening import Stand, copied, linked, open_unpacked, packing, read_as_far
from flowstat.read.words import is_storable, shown, visible

__all__ = ["Found", "find_traces"]

WORKER = re.compile(r"worker-.*\.jsonl(\.gz|\.zst)?", re.DOTALL)
"""The name of what one of several workers recorded."""


@dataclass(frozen=True)
class Found:
    """One trace that was found: a file, or the segments of one.

    Attributes
    ----------
    format
        See `flowstat.read.formats.recognise`.
    origin
        Its name in messages.
    parts
        What is read.
    places
        The files as they were found; those that stand in for them may be `parts`.
    stands
        What has to be kept for as long as the parts are read.
    """

    format: str
    origin: str
    parts: tuple[Path, ...]
    places: tuple[str, ...]
    stands: tuple[Stand, ...] = ()


def find_traces(paths: Iterable[str]) -> list[Found]:
    """Find traces; a file that is found twice, by itself or as a segment, is one.

    Raises
    ------
    TraceError
        If nothing is there, or a file can't be read, is empty or in no known format.
    """
    return _joined(_once([one for path in paths for one in (_standard_input() if path == "-" else _find(path))]))


def _once(found: list[Found]) -> list[Found]:
    """Return what was found without what is a part of something else, in its order."""
    taken: set[str] = set()
    kept: set[int] = set()
    for at, one in sorted(enumerate(found), key=lambda each: -len(each[1].places)):
        new = [place for place in one.places if place not in taken]
        if new and len(new) < len(one.places):
            raise TraceError(f"{one.origin} has files in common with another trace that is given: give each once")
        if new:
            kept.add(at)
            taken.update(new)
    return [one for at, one in enumerate(found) if at in kept]


def _joined(found: list[Found]) -> list[Found]:
    """Return what was found with the files of workers in one directory as one trace: its runs go from file to file."""
    joined: dict[object, list[Found]] = {}
    for at, one in enumerate(found):
        place = Path(one.places[0])
        shard = one.format == "jsonl" and WORKER.fullmatch(place.name) and _has_text_ids(one)
        joined.setdefault(place.parent if shard else at, []).append(one)
    return [_as_one(some) for some in joined.values()]


def _has_text_ids(one: Found) -> bool:
    """Return whether ids are texts, which are the world's, and not numbers, which are the file's own."""
    with open_unpacked(one.parts[0], one.origin) as file:
        head, _ = read_as_far(file, 1 << 16)
    return not head.strip() or re.search(rb'"trace_id"\s*:\s*"', head) is not None


def _as_one(some: list[Found]) -> Found:
    if len(some) == 1:
        return some[0]
    return Found(
        some[0].format,
        str(Path(some[0].origin).parent),
        tuple(part for one in some for part in one.parts),
        tuple(place for one in some for place in one.places),
        tuple(stand for one in some for stand in one.stands),
    )


def _standard_input() -> Iterator[Found]:
    stand = copied(sys.stdin.buffer, "<stdin>")
    yield _found("<stdin>", (stand.path,), ("<stdin>",), (stand,))


def _find(path: str) -> Iterator[Found]:
    try:
        if Path(path).exists():
            matches = [path]
        elif glob.has_magic(path):
            matches = sorted(glob.glob(path, recursive=True))
        else:
            matches = []
    except (OSError, ValueError) as error:
        raise TraceError(f"can't read the trace {shown(path, 200)}: {error}") from None
    if not matches:
        raise TraceError(f"no such trace: {shown(path, 200)}")
    found = [one for match in matches for one in _at(Path(match), match)]
    if not found:
        raise TraceError(f"{_name(path)} is a directory without traces (*{', *'.join(SUFFIXES)})")
    yield from found


def _at(place: Path, name: str) -> Iterator[Found]:
    """Yield what is at a place: of a directory all that is in it and below, its segments as one trace."""
    if not place.is_dir():
        yield _of_files((place,), _name(name))
        return
    try:
        # A link to a directory may lead back: it is not followed.
        seen = (p for p in place.iterdir() if not p.name.startswith("."))
        inside = sorted(p for p in seen if (not p.is_symlink() if p.is_dir() else _is_trace(p)))
    except OSError as error:
        raise TraceError(f"can't read the directory {_name(name)}: {error.strerror}") from None
    segments = tuple(p for p in inside if p.match("part-*.parquet") and not p.is_dir())
    if segments:
        yield _of_files(segments, _name(name))
    for entry in inside:
        if entry not in segments:
            yield from _at(entry, str(entry))


def _is_trace(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").removesuffix(".zst").endswith(SUFFIXES)


def _name(path: str) -> str:
    """Return a path as messages and counts files can hold it."""
    return path if is_storable(path) else visible(path)


def _of_files(places: tuple[Path, ...], origin: str) -> Found:
    parts: list[Path] = []
    stands: list[Stand] = []
    for place in places:
        stand = _stand_in(place, origin)
        stands += [stand] if stand else []
        parts.append(stand.path if stand else place)
    return _found(origin, tuple(parts), tuple(os.path.realpath(place) for place in places), tuple(stands))


def _found(origin: str, parts: tuple[Path, ...], places: tuple[str, ...], stands: tuple[Stand, ...]) -> Found:
    unpacked = _unpacked(parts[0], origin) if len(parts) == 1 else None
    if unpacked:
        parts, stands = (unpacked.path,), (unpacked,)
    return Found(recognise(parts[0], origin), origin, parts, places, stands)


def _stand_in(place: Path, origin: str) -> Stand | None:
    """Return what is read in place of a file that can't be read there, more than once or by all libraries."""
    if place.exists() and not place.is_file():
        try:
            with place.open("rb") as pipe:
                return copied(pipe, origin, place.name)
        except OSError as error:
            raise TraceError(f"can't read the trace {origin}: {error.strerror or error}") from None
    return None if is_storable(str(place)) else linked(place)


def _unpacked(place: Path, origin: str) -> Stand | None:
    """Return a copy of packed Parquet, which is read here and there, as it is unpacked."""
    try:
        if packing(place) is None:
            return None
    except OSError as error:
        raise TraceError(f"can't read the trace {origin}: {error.strerror or error}") from None
    with open_unpacked(place, origin) as file:
        head, _ = read_as_far(file, 4)
    if head != b"PAR1":
        return None
    with open_unpacked(place, origin) as file:
        return copied(file, origin)

"""Storm's DRN, the explicit format that it writes and reads: states with labels, an action, and its transitions.

Source: Storm's documentation of the DRN format, and what Storm itself writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TextIO

from flowstat.errors import ChainError
from flowstat.estimate.chain_model import Model, Transitions, numbered
from flowstat.read.words import shown

__all__ = ["drn_lines", "parse_drn"]

_plain = re.compile(r"[^\s\"\\\[\]{}!]+")
_label = re.compile(r'"([^"]*)"|([^\s"]+)')
_state = re.compile(r"state\s+([0-9]{1,18})(?![0-9])\s*(?:!\S+\s*)?(?:\[[^\]]*\]\s*)?(.*)")
_escape = re.compile(r"\\u\{([0-9a-f]+)\}")

DIGITS = 18
"""Of the longest number of states: Python refuses to read those of thousands of digits."""

SECTIONS = ("@parameters", "@placeholders", "@reward_models", "@nr_states", "@nr_choices", "@model", "@value_type")


def drn_lines(model: Model) -> Iterator[str]:
    """Yield the lines of a DRN file."""
    n = model.P.shape[0]
    of: list[list[str]] = [[] for _ in range(n)]
    for label, states in model.labels.items():
        for k in states:
            of[k].append(_quoted(label))
    yield "@type: DTMC\n@parameters\n\n@reward_models\n\n"
    yield f"@nr_states\n{n}\n@nr_choices\n{n}\n@model\n"
    indptr, indices, data = model.P.indptr.tolist(), model.P.indices.tolist(), model.P.data.tolist()
    for i in range(n):
        yield " ".join([f"state {i}", *of[i]]) + "\n\taction 0\n"
        for at in range(indptr[i], indptr[i + 1]):
            yield f"\t\t{indices[at]} : {data[at]!r}\n"


def _quoted(label: str) -> str:
    """Return a label as DRN writes it: in quotes if it is no plain word; quotes and line ends in it as numbers."""
    text = "".join(c if c.isprintable() and c not in '"\\' else f"\\u{{{ord(c):x}}}" for c in label)
    return text if text == label and _plain.fullmatch(text) else f'"{text}"'


def parse_drn(file: TextIO, origin: str) -> Model:
    """Read a DRN file.

    Raises
    ------
    ChainError
        If it is none of a discrete-time Markov chain: with file and line.
    """
    lines = numbered(file)
    states = _head(lines, origin)
    rows = Transitions(origin, states)
    labels: dict[str, list[int]] = {}
    state, actions = -1, 0
    for at, line in lines:
        if line.startswith("//"):
            continue
        if line[0].isdigit():
            if state < 0:
                raise rows.error(at, "a transition before the first state")
            target, colon, chance = line.partition(":")
            if not colon:
                raise rows.error(at, f"not a transition: {shown(line, 80)!r} (expected: state : probability)")
            rows.add(at, state, target, chance.strip())
        elif found := _state.fullmatch(line):
            if int(found[1]) != state + 1:
                raise rows.error(at, f"state {found[1]} comes after state {state}: states come in order")
            state, actions = state + 1, 0
            if state >= states:
                raise rows.error(at, f"more states than the {states} of @nr_states")
            for quoted, plain in _label.findall(found[2]):
                labels.setdefault(_unescaped(quoted or plain), []).append(state)
        elif line.split()[0] == "action":
            actions += 1
            if actions > 1:
                raise rows.error(at, f"state {state} has a second action: only Markov chains are read (type DTMC)")
        else:
            raise rows.error(at, f"not a state, action or transition: {shown(line, 80)!r}")
    if state + 1 < states:
        raise ChainError(f"{origin}: {state + 1:,} states, but @nr_states says {states:,}: is it cut off?")
    return Model(rows.matrix(), labels)


def _unescaped(text: str) -> str:
    return _escape.sub(lambda found: chr(min(int(found[1], 16), 0x10FFFF)), text)


def _head(lines: Iterator[tuple[int, str]], origin: str) -> int:
    """Read up to the states; return how many they are."""
    states: int | None = None
    kind = section = ""
    for at, line in lines:
        if line.startswith("//"):
            continue
        if line.startswith("@type"):
            kind = line.partition(":")[2].strip().upper()
            if kind != "DTMC":
                raise ChainError(
                    f"{origin}:{at}: a model of the type {shown(kind)}: only Markov chains (DTMC) are read"
                )
        elif line.startswith("@"):
            section = line.split(":")[0].split()[0]
            if section not in SECTIONS:
                raise ChainError(f"{origin}:{at}: an unknown section {shown(section)}")
            if section == "@value_type" and line.partition(":")[2].strip() not in ("double", "rational", "exact"):
                raise ChainError(f"{origin}:{at}: {shown(line, 80)}: only chains of plain numbers are read")
            if section == "@model":
                break
        elif section == "@parameters":
            raise ChainError(f"{origin}:{at}: a chain with parameters ({shown(line)}): put numbers in their place")
        elif section == "@nr_states":
            if not line.isdecimal() or len(line) > DIGITS or int(line) < 1:
                raise ChainError(f"{origin}:{at}: not a number of states: {shown(line)!r}")
            states = int(line)
    if section != "@model" or not kind or states is None:
        raise ChainError(f"{origin}: no DRN file of a Markov chain: @type, @nr_states or @model is missing")
    return states

"""PRISM's explicit files: transitions `from to chance` in .tra, labels by number in .lab.

Source: the PRISM manual, appendix "Explicit model files".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TextIO

from scipy import sparse

from flowstat.errors import ChainError
from flowstat.estimate.chain_model import Model, Transitions, numbered
from flowstat.read.words import shown

__all__ = ["from_word", "label_lines", "parse_labels", "parse_transitions", "to_word", "transition_lines"]

_word = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_odd = re.compile(r"[^A-Za-z0-9_]|(?<=_)_(?=u)|^[0-9]")
_escape = re.compile(r"__u([0-9a-f]+)_")
# Longer numbers are none of a state or a label, and Python refuses to read those of thousands of digits.
_declared = re.compile(r'([0-9]{1,18})="([^"]*)"')
_held = re.compile(r"([0-9]{1,18})\s*:\s*((?:[0-9]{1,18}(?: +|$))*)")


def to_word(label: str) -> str:
    """Return a label as a word that PRISM takes: other characters as `__u` with their hexadecimal number and `_`.

    Examples
    --------
    >>> to_word("a/b"), to_word("2nd"), from_word(to_word("a__u2f_b"))
    ('a__u2f_b', '__u32_nd', 'a__u2f_b')
    """
    if _word.fullmatch(label) and "__u" not in label:
        return label
    return _odd.sub(lambda found: f"__u{ord(found[0]):x}_", label)


def from_word(word: str) -> str:
    """Return the label of a word."""

    def character(found: re.Match[str]) -> str:
        code = int(found[1], 16)
        return chr(code) if code <= 0x10FFFF else found[0]

    return _escape.sub(character, word)


def transition_lines(model: Model) -> Iterator[str]:
    """Yield the lines of a .tra file."""
    n = model.P.shape[0]
    yield f"{n} {model.P.nnz}\n"
    indptr, indices, data = model.P.indptr.tolist(), model.P.indices.tolist(), model.P.data.tolist()
    for i in range(n):
        for at in range(indptr[i], indptr[i + 1]):
            yield f"{i} {indices[at]} {data[at]!r}\n"


def label_lines(model: Model) -> Iterator[str]:
    """Yield the lines of a .lab file."""
    yield " ".join(f'{k}="{to_word(label)}"' for k, label in enumerate(model.labels)) + "\n"
    of: dict[int, list[int]] = {}
    for k, states in enumerate(model.labels.values()):
        for state in states:
            of.setdefault(state, []).append(k)
    for state in sorted(of):
        yield f"{state}: {' '.join(map(str, of[state]))}\n"


def parse_transitions(file: TextIO, origin: str) -> sparse.csr_array:
    """Read a .tra file.

    Raises
    ------
    ChainError
        If it is none of a discrete-time Markov chain: with file and line.
    """
    lines = numbered(file)
    at, head = next(lines, (1, ""))
    try:
        states, transitions = map(int, head.split())
    except ValueError:
        raise ChainError(
            f"{origin}:{at}: a .tra file of a Markov chain begins with its numbers of states and of transitions, "
            f"not with {shown(head, 80)!r}"
        ) from None
    if states < 1 or transitions < 0:
        raise ChainError(f"{origin}:{at}: a chain needs at least one node")
    if states > 2 * (transitions + 1):
        # Two for each, one that leads and one that is led to: the others could not even be come to.
        raise ChainError(
            f"{origin}:{at}: {states:,} states, and {transitions:,} transitions: every state has one, to itself "
            "where it is not left"
        )
    rows = Transitions(origin, states)
    for at, line in lines:
        parts = line.split()
        if len(parts) not in (3, 4):
            raise rows.error(at, f"not a transition: {shown(line, 80)!r} (expected: from to probability)")
        try:
            source = int(parts[0])
        except ValueError:
            raise rows.error(at, f"not a state: {shown(parts[0], 80)!r}") from None
        rows.add(at, source, parts[1], parts[2])
    if len(rows.values) != transitions:
        raise ChainError(
            f"{origin}: {len(rows.values):,} transitions, but its first line says {transitions:,}: is it cut off?"
        )
    return rows.matrix()


def parse_labels(file: TextIO, origin: str, states: int) -> dict[str, list[int]]:
    """Read a .lab file: label -> states.

    Raises
    ------
    ChainError
        If it is none: with file and line.
    """
    lines = numbered(file)
    at, head = next(lines, (1, ""))
    numbers: dict[int, str] = {}
    for found in _declared.finditer(head):
        numbers[int(found[1])] = from_word(found[2])
    if _declared.sub("", head).strip() or len(set(numbers.values())) < len(_declared.findall(head)):
        raise ChainError(f'{origin}:{at}: a .lab file begins with its labels, each once: 0="init" 1="deadlock" ...')
    labels: dict[str, list[int]] = {label: [] for label in numbers.values()}
    for at, line in lines:
        match = _held.fullmatch(line)
        if match is None:
            raise ChainError(f"{origin}:{at}: not a state with its labels: {shown(line, 80)!r} (expected: 3: 0 2)")
        state = int(match[1])
        if state >= states:
            raise ChainError(f"{origin}:{at}: a state {state}, but states are numbered from 0 to {states - 1}")
        for k in map(int, match[2].split()):
            if k not in numbers:
                raise ChainError(f"{origin}:{at}: no label has the number {k}")
            labels[numbers[k]].append(state)
    return labels

"""Chains as files of model checkers: PRISM's explicit files (.tra with .lab) and Storm's DRN, written and read.

A model checker's chain has no stops and starts in one state. So a written chain has one state more, labelled `end`,
that it stays in (if runs stop anywhere), and one, labelled `start`, that leads to where runs start (if that is not one
node). Reading takes such states away again: what was written is read as it was, to the last bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from flowstat.errors import ChainError, OutputError
from flowstat.estimate.chain import Chain
from flowstat.estimate.chain_drn import drn_lines, parse_drn
from flowstat.estimate.chain_model import Model
from flowstat.estimate.chain_prism import label_lines, parse_labels, parse_transitions, transition_lines
from flowstat.read.words import shown

__all__ = ["CHAIN_SUFFIXES", "read_chain", "write_chain"]

CHAIN_SUFFIXES = (".tra", ".drn")
"""Files that hold a chain."""


def write_chain(chain: Chain, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a chain for a model checker.

    Parameters
    ----------
    chain
        A chain.
    path
        `name.drn` for Storm; `name.tra` for PRISM, with the labels in `name.lab` beside it.
    overwrite
        Whether to replace what is there.

    Raises
    ------
    OutputError
        If the name says no format, something is there already, or the file can't be written.

    Notes
    -----
    Read by `prism -dtmc -importtrans name.tra -importlabels name.lab` and `storm --explicit-drn name.drn`: the chance
    to come to the node `ship` is `P=? [ F "ship" ]`, that to stop anywhere `P=? [ F "end" ]`. Every number is written
    with the digits that tell it from all others. PRISM's labels are words of letters, digits and `_`: other characters
    of a name become `__u` with their hexadecimal number and `_`, so `a/b` is `a__u2f_b`. Linear in the arrows: about a
    microsecond each.
    """
    path = Path(path)
    suffix = _suffix(path, OutputError)
    model = Model.of(chain)
    texts = {path: drn_lines(model)} if suffix == ".drn" else {path: transition_lines(model)}
    if suffix == ".tra":
        texts[path.with_suffix(".lab")] = label_lines(model)
    for target in texts:
        if target.exists() and not overwrite:
            raise OutputError(f"{target} is there already: choose another name, or overwrite it")
    drafts = {target: target.with_name(f".{target.name}.draft") for target in texts}
    try:
        for target, lines in texts.items():
            with drafts[target].open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(lines)
        for target, draft in drafts.items():
            draft.replace(target)
    except OSError as error:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
        raise OutputError(f"can't write {path}: {error.strerror or error}") from None


def read_chain(path: str | Path) -> Chain:
    """Read a chain from a file of a model checker.

    Parameters
    ----------
    path
        `name.drn`, or `name.tra` with labels in `name.lab` beside it, if it is there.

    Returns
    -------
    Chain
        A state is named by its first label that no other state has, else by its number. Runs start at the states
        labelled `init`, evenly, and stop where a state leads nowhere, or stays and is labelled `deadlock`; other states
        that are never left are traps. The states `end` and `start` that `write_chain` adds are taken away again: one
        that stays, one that leads to where runs start, with no label of a node.

    Raises
    ------
    ChainError
        If the file can't be read or is no discrete-time Markov chain: with file and line.
    """
    path = Path(path)
    suffix = _suffix(path, ChainError)
    with _opened(path) as file:
        if suffix == ".drn":
            return parse_drn(file, str(path)).chain(str(path))
        P = parse_transitions(file, str(path))
    beside = path.with_suffix(".lab")
    labels: dict[str, list[int]] = {}
    if beside.exists():
        with _opened(beside) as file:
            labels = parse_labels(file, str(beside), P.shape[0])
    return Model(P, labels).chain(str(path))


def _suffix(path: Path, kind: type[ChainError] | type[OutputError]) -> str:
    suffix = path.suffix.lower()
    if suffix not in CHAIN_SUFFIXES:
        raise kind(f"{path}: a chain is in a file called .drn (Storm) or .tra (PRISM), not {suffix or 'nothing'!r}")
    return suffix


def _opened(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8", errors="surrogateescape", newline=None)
    except OSError as error:
        raise ChainError(f"can't read the chain {shown(str(path), 200)}: {error.strerror or error}") from None

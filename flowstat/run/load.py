"""Behaviours files: a Python file beside the graph."""

from __future__ import annotations

import inspect
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from flowstat.errors import RunError
from flowstat.read.graph import Graph
from flowstat.run.behaviour import MARKS, Behaviour, Mark, unknown_node

__all__ = ["BehavioursFile", "load_behaviours"]


@dataclass(frozen=True)
class BehavioursFile:
    """What a behaviours file gives a graph.

    `unused` names its public functions that are tied to no node.
    """

    path: Path
    behaviours: dict[str, Behaviour]
    unused: tuple[str, ...] = ()


def load_behaviours(path: str | Path, graph: Graph) -> BehavioursFile:
    """Import a behaviours file and tie its functions to the graph's nodes.

    A function marked with `on` belongs to the node that the mark names; a public function defined in the
    file without a mark belongs to the node of its name.

    Raises
    ------
    RunError
        If the file is missing, has a syntax error or raises an exception (with its line), marks a node
        that the graph lacks, has two functions for one node, or one that is no behaviour.
    """
    path = Path(path)
    module = _import(path)
    marks: list[Mark] = vars(module).get(MARKS, [])
    marked = {id(mark.function) for mark in marks}
    nodes = set(graph.nodes)
    found: dict[str, Behaviour] = {}
    for mark in marks:
        behaviour = Behaviour(*mark)
        if mark.node not in nodes:
            raise RunError(f"{behaviour.place()}: {unknown_node(mark.node, graph)}")
        _add(found, behaviour)
    unused = []
    for name, function in vars(module).items():
        if not inspect.isfunction(function) or function.__module__ != module.__name__:
            continue
        if name.startswith("_") or id(function) in marked:
            continue
        if name in nodes:
            _add(found, Behaviour(name, function))
        else:
            unused.append(name)
    return BehavioursFile(path, found, tuple(unused))


def _add(found: dict[str, Behaviour], behaviour: Behaviour) -> None:
    first = found.setdefault(behaviour.node, behaviour)
    if first is not behaviour:
        raise RunError(
            f"two behaviours for the node {behaviour.node!r}: {first.place()} and {behaviour.place()}; "
            "keep one, or rename one so that it is no node's name"
        )


def _import(path: Path) -> ModuleType:
    try:
        source = path.read_bytes()
    except FileNotFoundError:
        raise RunError(f"no behaviours file {path}: write one there, or name it") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"can't read the behaviours file {path}: {reason}") from None
    try:
        code = compile(source, str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        line = (error.text or "").rstrip("\n")
        caret = f"\n{line}\n{' ' * max(0, (error.offset or 1) - 1)}^" if line else ""
        raise RunError(f"{path}:{error.lineno or 1}:{error.offset or 1}: {error.msg}{caret}") from None
    except ValueError as error:  # null bytes
        raise RunError(f"{path} is not a Python file: {error}") from None
    module = ModuleType(f"behaviours_{path.stem}")
    module.__file__ = str(path)
    # As for a script: the file finds its neighbours, and pickle and dataclasses find the file.
    sys.modules[module.__name__] = module
    folder = str(path.parent.absolute())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        exec(code, vars(module))
    except (Exception, SystemExit) as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        where = f"{path}:{lines[-1]}" if lines else str(path)
        raise RunError(f"{where}: {type(error).__name__}: {error}") from error
    return module

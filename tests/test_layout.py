"""The house keeps its shape: imports go one way, starting is light, modules stay small and explain themselves."""

import ast
import doctest
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import flowstat

ROOT = Path(flowstat.__file__).parent
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))

LAYERS = ["read", "estimate", "analyze", "explain", "show"]
MAY_IMPORT = {layer: {*LAYERS[: k + 1], "errors", "results", "__version__"} for k, layer in enumerate(LAYERS)} | {
    "run": {"run", "read", "errors", "results"},
    "errors": {"errors"},
    "results": {"results", "errors"},
    "__main__": {"cli"},
}
"""What each part may import from; the command line and the lazy exports may import all."""

HEAVY = {"pandas", "matplotlib", "scipy", "duckdb", "numpy", "pyarrow", "networkx", "pydot", "jinja2", "rich", "ibis"}

MOST_LINES = 300
LONG = {
    "read/native.py": "the parser and the writer of one syntax belong together",
    "__init__.py": "one list of all public names",
    "cli.py": "one short function for each command",
    "analyze/solve.py": "one solver, with all that it knows of its chain",
    "analyze/compiled.py": "compiled functions that call one another",
    "estimate/engine.py": "one way from a table on an engine to counts",
    "estimate/embedded.py": "one way from rows in a database to counts",
}


def tree(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text(encoding="utf-8"))


def part(module: str) -> str:
    """Return the part of the house that a module of ours belongs to: `read/dot.py` to `read`."""
    return module.split("/")[0].removesuffix(".py")


def imported(module: str) -> Iterator[tuple[int, str]]:
    """Yield the parts of the house that a module imports or uses, anywhere in it, with the line."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}:{node.lineno}: a relative import"
            wanted = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names if alias.name != "flowstat"]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            wanted = [f"{node.value.id}.{node.attr}"]
        else:
            continue
        for name in wanted:
            package, _, rest = name.partition(".")
            if package == "flowstat":
                yield node.lineno, rest.split(".")[0]


@pytest.mark.parametrize("module", [m for m in MODULES if part(m) not in ("cli", "__init__")])
def test_imports_go_one_way(module: str) -> None:
    allowed = MAY_IMPORT[part(module)]
    against = [f"{module}:{line} imports {where}" for line, where in imported(module) if where not in allowed]
    assert not against


def loaded_by(code: str) -> set[str]:
    """Return the top-level packages that a fresh interpreter has loaded after running some code."""
    report = "; import sys; print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "code",
    [
        "import flowstat; dir(flowstat)",
        "import contextlib, sys, flowstat.cli; sys.argv[:] = ['flowstat', '--help']\n"
        "with contextlib.suppress(SystemExit): flowstat.cli.main()\npass",
    ],
)
def test_starting_loads_nothing_heavy(code: str) -> None:
    assert not loaded_by(code) & HEAVY


def test_the_command_and_the_module_are_one() -> None:
    done = subprocess.run([sys.executable, "-m", "flowstat", "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: " in done.stdout


PUBLIC = {
    *("parse_graph", "read_graph", "format_graph", "Graph", "Arrow", "Component", "Route"),
    *("read_traces", "Traces", "open_writer"),
    *("count", "Counts", "read_counts", "write_counts", "discover", "summarise", "estimate", "Chain"),
    *("classes", "absorption", "visits", "shares", "loops", "cycles", "flows"),
    *("stationary",),
    *("restart",),
    *(
        "first_passage",
        "kemeny",
    ),
    *("reversal",),
    *("mixing",),
    *("timing",),
    *(
        "durations",
        "time_law",
    ),
    *("sensitivity",),
    *("Answer",),
    *("what_if",),
    *("restrict",),
    *(
        "condition",
        "pairs",
        "power",
    ),
    *(
        "coarsest",
        "lump",
    ),
    *("simulate",),
    *(
        "count_pairs",
        "second_order",
    ),
    *("Remembering", "remembering"),
    *("assess",),
    *("conform",),
    *(
        "read_chain",
        "write_chain",
    ),
    *(
        "chain_frame",
        "chain_from_frame",
        "chain_from_networkx",
    ),
    *("hitting",),
    *("before",),
    *(
        "steps",
        "within",
    ),
    *("quantiles",),
    *("dead_arrows",),
    *("reversible",),
    *("spectrum",),
    *("metastable",),
    *("committor",),
    *("reactive_flow",),
    *("amplification",),
    *("generations",),
    *("reach",),
    *("critical",),
    *("circulation",),
    *("variants",),
    *("observed_variants",),
    *("diff",),
    *("plan",),
    *("iter_cycles",),
    *("check", "parse_property", "read_properties", "write_junit"),
    *("draw", "report"),
    *(
        "App",
        "on",
        "load_behaviours",
        "Limits",
        "Emit",
        "Retry",
        "VirtualTime",
        "LatencyLaw",
        "digest",
        "Together",
        "Supervision",
        "work",
        "inject",
    ),
    *("plot_coverage", "plot_flows", "plot_generations", "plot_spectrum"),
    *("FlowstatError", "GraphError", "TraceError", "ChainError", "AnalysisError", "RunError", "OutputError"),
}


def test_the_public_names_are_these() -> None:
    assert set(flowstat.__all__) == PUBLIC


def test_every_public_name_is_there() -> None:
    assert all(getattr(flowstat, name) is not None for name in flowstat.__all__)
    assert set(flowstat.__all__) <= set(dir(flowstat))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        flowstat.nothing  # noqa: B018


def test_modules_stay_small() -> None:
    lines = {module: len((ROOT / module).read_text(encoding="utf-8").splitlines()) for module in MODULES}
    assert {module: n for module, n in lines.items() if n > MOST_LINES and module not in LONG} == {}
    assert {module for module in LONG if lines[module] <= MOST_LINES} == set(), "no longer long: take it off the list"


@pytest.mark.parametrize("module", MODULES)
def test_what_is_public_explains_itself(module: str) -> None:
    top = tree(module)
    assert ast.get_docstring(top)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    public = [node for node in top.body if isinstance(node, kinds) and not node.name.startswith("_")]
    assert [node.name for node in public if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("module", [m for m in MODULES if not m.endswith("__main__.py")])
def test_the_examples_are_true(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = "flowstat." + module.removesuffix(".py").replace("/", ".")
    result = doctest.testmod(importlib.import_module(name.removesuffix(".__init__")))
    assert result.failed == 0

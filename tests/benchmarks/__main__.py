"""`python -m tests.benchmarks [NAME...]`: run bench_NAME.py (all, if none is named); exit 1 if a bound is missed."""

import sys
from importlib import import_module
from pathlib import Path

from tests.benchmarks.harness import Row


def main(names: list[str]) -> int:
    found = {path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py")}
    unknown = [name for name in names if name not in found]
    if unknown:
        print(f"no benchmark {unknown[0]}: there are {', '.join(sorted(found))}", file=sys.stderr)
        return 2
    missed = 0
    for name in names or sorted(found):
        for given in import_module(f"tests.benchmarks.bench_{name}").benchmarks():
            row = Row(*given)
            missed += not row.holds
            verdict = "ok" if row.holds else "MISSED"
            print(
                f"{verdict:6}  {name:8} {row.name:44} {row.ratio:8.2f}  {row.sense} {row.bound:g}  ({row.detail})",
                flush=True,
            )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

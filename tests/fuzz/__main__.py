"""`python -m tests.fuzz [FORMAT...] -- [libFuzzer options]`: feed every reader of traces mutated files.

Anything but a FlowstatError is a finding: what made it is kept by libFuzzer as a file `crash-...`, and belongs in
`tests/fuzz/found`, where the test suite runs it from then on. Needs atheris (`pip install atheris`).
"""

import logging
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import atheris

with atheris.instrument_imports(include=["flowstat.read"]):
    import flowstat.read as package
    from tests.fuzz.target import FORMATS, one_input, seeds

    # Readers import each other when they are called: too late to be watched.
    for found in iter_modules(package.__path__):
        import_module(f"flowstat.read.{found.name}")


def main(arguments):
    at = arguments.index("--") if "--" in arguments else len(arguments)
    formats = arguments[:at] or sorted(FORMATS)
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="flowstat-fuzz-") as place:
        corpus = Path(place) / "corpus"
        corpus.mkdir()
        for k, seed in enumerate(seeds(formats)):
            (corpus / f"seed-{k}").write_bytes(seed)
        path = Path(place) / "input"
        atheris.Setup([sys.argv[0], str(corpus), *arguments[at + 1 :]], lambda data: one_input(data, path))
        atheris.Fuzz()


main(sys.argv[1:])

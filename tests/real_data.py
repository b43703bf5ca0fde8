"""The real logs that lie beside the project."""

import os
from pathlib import Path

import pytest

from tests.conftest import SHARED


def real_data(name: str) -> Path:
    """Return where a file of ../shared/data is; skip where it is absent, fail there in CI."""
    path = SHARED / "data" / name
    if not path.exists():
        reason = f"../shared/data/{name} is not here: real data can't be compared"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path

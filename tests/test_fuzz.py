"""Readers fed with damaged files: only errors of our own come out, and they name the file."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.target import FORMATS, NAMES, one_input

FOUND = sorted((Path(__file__).parent / "fuzz" / "found").glob("*"))


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.name)
def test_what_fuzzing_found_stays_mended(tmp_path, path):
    one_input(path.read_bytes(), tmp_path / "input")


edits = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.integers(0, 6),
        st.sampled_from(
            [b"", b"null", b"{}", b"[]", b"-1", b"1e400", b'"', b"\xff", b"\n", b"<", b"&", b"99999999999999999999"]
        )
        | st.binary(max_size=3),
    ),
    max_size=4,
)


@settings(max_examples=400)
@pytest.mark.parametrize("format", NAMES)
@given(skip=st.booleans(), which=st.integers(0, 1), edits=edits, cut=st.none() | st.floats(0, 1))
def test_damaged_files_are_told_apart_from_bugs(tmp_path, format, skip, which, edits, cut):
    texts = FORMATS[format]
    text = texts[which % len(texts)]
    for place, length, put in edits:
        at = int(place * len(text))
        text = text[:at] + put + text[at + length :]
    if cut is not None:
        text = text[: int(cut * len(text))]
    one_input(bytes([2 * NAMES.index(format) + skip]) + text, tmp_path / "input")


@given(st.binary(max_size=60))
def test_any_bytes_are_told_apart_from_bugs(tmp_path, data):
    one_input(data, tmp_path / "input")

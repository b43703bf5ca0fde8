import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstat.estimate import places
from flowstat.estimate.places import Places

blocks = st.lists(st.lists(st.text(max_size=5) | st.sampled_from(["", "a", "aa", "\0", "é"]), unique=True), max_size=6)


def numbered(blocks, kind=None):
    """Return what a plain dictionary says, block by block."""
    known = {}
    for block in blocks:
        for value in block:
            known.setdefault(value, len(known))
        yield [known[value] for value in block]


def agree(blocks, kind):
    found = Places()
    for block, numbers in zip(blocks, numbered(blocks), strict=True):
        assert found.find(pa.array(block, kind)).tolist() == numbers
    assert len(found) == len({value for block in blocks for value in block})


@given(blocks)
def test_texts_are_numbered_as_by_a_dictionary(blocks):
    agree(blocks, pa.string())


@given(st.lists(st.lists(st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**63]), unique=True), max_size=6))
def test_integers_are_numbered_as_by_a_dictionary(blocks):
    agree(blocks, pa.uint64())
    signed = [[value - 2**63 for value in block] for block in blocks]
    agree(signed, pa.int64())


@pytest.mark.parametrize("width", [1, 2, 7])
@given(blocks=blocks)
def test_texts_with_the_same_hash_stay_apart(width, blocks):
    """With so short a hash nearly all texts collide."""
    with pytest.MonkeyPatch.context() as patch:
        whole = places._hashes
        patch.setattr(places, "_hashes", lambda texts: whole(texts) % np.uint64(width))
        agree(blocks, pa.string())


@pytest.mark.parametrize("length", [1, 7, 8, 9, 255, 256, 257, 5000])
def test_texts_of_any_length_stay_apart(length):
    agree([["x" * length, "x" * length + "y", "y" + "x" * length], ["x" * length + "\0", "x" * length]], pa.string())


def test_many_blocks_keep_all_texts():
    agree([[f"case-{k}-{n}" for n in range(20)] + ["always"] for k in range(200)], pa.string())


def test_a_slice_of_an_array_is_read_where_it_lies():
    found = Places()
    array = pa.array(["x", "yy", "zzz", "yy"])
    assert found.find(array.slice(1, 2)).tolist() == [0, 1]
    assert found.find(array.slice(0, 2)).tolist() == [2, 0]

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowstat.errors import ChainError, OutputError
from flowstat.estimate.chain import END, Chain
from flowstat.estimate.chain_files import read_chain, write_chain
from flowstat.estimate.chain_model import named, node
from flowstat.estimate.chain_prism import from_word, to_word
from tests.oracles import chains, pit, shop
from tests.strategies import AWKWARD

FORMATS = ["drn", "tra"]
RESERVED = ["init", "deadlock", "end", "start", "{init}", "{{end}}", "{end", "{}", "", "0", "1", "__u2f_", "a__u2f_b"]
words = st.sampled_from([*AWKWARD, *RESERVED]) | st.text(max_size=6) | st.text("_u2f{}", max_size=8)
floats = st.floats(1e-300, 1) | st.sampled_from([1e-300, 1e-17, 0.1, 1 / 3])


def same(one, other):
    assert one.names == other.names
    assert (one.P != other.P).nnz == 0
    assert one.P.nnz == other.P.nnz
    assert (one.stop == other.stop).all()
    assert (one.start == other.start).all()


def written(chain, path):
    write_chain(chain, path, overwrite=True)
    return read_chain(path)


@pytest.mark.parametrize("format", FORMATS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chain=chains(traps=True), data=st.data())
def test_what_is_written_is_read_to_the_last_bit(tmp_path, format, chain, data):
    n = len(chain.names)
    names = data.draw(st.lists(words.filter(lambda name: name != END), min_size=n, max_size=n, unique=True))
    odd = Chain(tuple(names), chain.P, chain.stop, chain.start)
    same(odd, written(odd, tmp_path / f"chain.{format}"))


@pytest.mark.parametrize("format", FORMATS)
def test_numbers_are_kept_to_the_last_bit(tmp_path, format):
    rng = np.random.default_rng(4)
    P = rng.random((40, 40)) ** 30
    P /= P.sum(axis=1, keepdims=True) * 1.5
    chain = Chain.from_matrix(P, start=dict.fromkeys("012", 1 / 3), stop=1 - P.sum(axis=1))
    same(chain, written(chain, tmp_path / f"c.{format}"))
    tiny = Chain.from_matrix([[1, 1e-300], [0, 1]], start="0")
    same(tiny, written(tiny, tmp_path / f"c.{format}"))


@given(words)
def test_labels_are_told_apart(name):
    assert node(named(name)) == name
    word = to_word(named(name))
    assert from_word(word) == named(name)
    assert word.isidentifier()
    assert word.isascii()


def test_what_is_written(tmp_path):
    chain = Chain.from_matrix([[0, 0.25], [0, 0]], ["a b", "end"], "a b", stop=[0.75, 1])
    write_chain(chain, tmp_path / "c.drn")
    text = (tmp_path / "c.drn").read_text()
    assert text.endswith(
        'state 0 init "a b"\n\taction 0\n\t\t1 : 0.25\n\t\t2 : 0.75\nstate 1 "{end}"\n\taction 0\n\t\t2 : 1.0\n'
        "state 2 end\n\taction 0\n\t\t2 : 1.0\n"
    )
    write_chain(chain, tmp_path / "c.tra")
    assert (tmp_path / "c.tra").read_text() == "3 4\n0 1 0.25\n0 2 0.75\n1 2 1.0\n2 2 1.0\n"
    labels = (tmp_path / "c.lab").read_text().splitlines()
    assert labels == [
        '0="init" 1="deadlock" 2="end" 3="a__u20_b" 4="__u7b_end__u7d_"',
        "0: 0 3",
        "1: 4",
        "2: 2",
    ]


def test_chains_of_model_checkers_are_read(tmp_path):
    """A die by coins: names by labels that are a state's own, numbers for others, deadlocks are stops."""
    (tmp_path / "die.drn").write_text(
        "// Exported by storm\n// Original model type: DTMC\n@type: DTMC\n@value_type: double\n@parameters\n\n"
        "@reward_models\ncoin_flips\n@nr_states\n4\n@nr_choices\n4\n@model\n"
        "state 0 [1] init\n\taction 0 [0]\n\t\t1 : 1/2\n\t\t2 : 0.5\n"
        'state 1 [0] "one" done\n\taction 0 [0]\n\t\t1 : 1\n'
        "state 2 [0] done two deadlock\n\taction 0 [0]\n\t\t2 : 1\n"
        "state 3 [0]\n\taction 0\n"
    )
    die = read_chain(tmp_path / "die.drn")
    assert die.names == ("0", "one", "two", "3")
    assert die.P.toarray()[0].tolist() == [0, 0.5, 0.5, 0]
    assert die.stop.tolist() == [0, 0, 1, 1]
    assert die.start.tolist() == [1, 0, 0, 0]
    (tmp_path / "die.tra").write_text("3 4\n0 1 0.5\n0 2 0.5\n1 1 1\n2 2 1\n")
    assert read_chain(tmp_path / "die.tra").names == ("0", "1", "2")
    (tmp_path / "die.lab").write_text('0="init" 1="deadlock" 2="win" 3="lose"\n0: 0\n1: 2\n2: 1 3\n')
    die = read_chain(tmp_path / "die.tra")
    assert die.names == ("0", "win", "lose")
    assert die.stop.tolist() == [0, 0, 1]


def test_several_initial_states_and_none(tmp_path):
    (tmp_path / "c.tra").write_text("3 3\n0 2 1\n1 2 1\n2 2 1\n")
    assert read_chain(tmp_path / "c.tra").start.tolist() == [0.5, 0.5, 0]
    (tmp_path / "c.lab").write_text('0="init"\n1: 0\n2: 0\n')
    assert read_chain(tmp_path / "c.tra").start.tolist() == [0, 0.5, 0.5]


def test_states_of_their_own_called_end_and_start_stay(tmp_path):
    """Not the ones that are added: one leads on, one is come to."""
    (tmp_path / "c.tra").write_text("3 4\n0 1 1\n1 0 0.5\n1 2 0.5\n2 2 1\n")
    (tmp_path / "c.lab").write_text('0="init" 1="end" 2="start" 3="x"\n0: 0 2\n1: 1\n2: 3\n')
    chain = read_chain(tmp_path / "c.tra")
    assert chain.names == ("0", "1", "x")
    assert not chain.stop.any()


LONG = "9" * 5000
HEAD = "@type: DTMC\n@parameters\n\n@reward_models\n\n@nr_states\n2\n@nr_choices\n2\n@model\n"
BAD_DRN = {
    "": "no DRN file",
    "@type: MDP\n": ":1: a model of the type MDP",
    HEAD.replace("@parameters\n\n", "@parameters\np\n"): ":3: a chain with parameters",
    HEAD.replace("2\n@nr_c", "two\n@nr_c"): ":7: not a number of states: 'two'",
    HEAD.replace("@reward_models", "@colours"): ":4: an unknown section @colours",
    HEAD.replace("@parameters", "@value_type: double-interval\n@parameters"): ":2: @value_type",
    HEAD + "state 0\n\taction 0\n\t\t0 : 1\n": "1 states, but @nr_states says 2: is it cut off",
    HEAD + "state 1\n": ":11: state 1 comes after state -1",
    HEAD + "0 : 1\n": ":11: a transition before the first state",
    HEAD + "state 0\n\taction 0\n\t\t5 : 1\n": ":13: a state 5, but states are numbered from 0 to 1",
    HEAD + "state 0\n\taction 0\n\t\t0 : -1\n": ":13: -1 is no probability",
    HEAD + "state 0\n\taction 0\n\t\t0 : nan\n": ":13: nan is no probability",
    HEAD + "state 0\n\taction 0\n\t\t0 : 1/0\n": ":13: not a transition",
    HEAD + "state 0\n\taction 0\n\t\t0 : p\n": ":13: not a transition",
    HEAD + "state 0\n\taction 0\n\t\t0 1\n": ":13: not a transition",
    HEAD + "state 0\n\taction 0\n\taction 1\n": ":13: state 0 has a second action",
    HEAD + "what\n": ":11: not a state, action or transition: 'what'",
    HEAD + "state 0\n\t\t0 : 1\nstate 1\n\t\t1 : 1\nstate 2\n": ":15: more states than the 2",
    HEAD + "state 0\n\t\t0 : 0.99999\nstate 1\n": "the transitions from state 0 sum to 0.99999",
    HEAD + "state 0\n\t\t0 : 0.5\n\t\t0 : 0.5\nstate 1\n": "the transition from 0 to 0 is there twice",
    HEAD + "state " + LONG: ":11: not a state, action or transition: 'state 999",
    HEAD + f"state 0\n\t\t{LONG} : 1\n": ":12: not a transition",
    HEAD + "state 0\n\t\t0 : 1e99999999/1e99999999\n": ":12: not a transition",
    HEAD.replace("2\n@nr_c", LONG + "\n@nr_c"): ":7: not a number of states",
    HEAD.replace("2\n@nr_c", "9" * 18 + "\n@nr_c"): "more states than the 2,147,483,647",
}


@pytest.mark.parametrize("text", BAD_DRN, ids=range(len(BAD_DRN)))
def test_bad_drn_is_an_error_with_its_line(tmp_path, text):
    path = tmp_path / "bad.drn"
    path.write_text(text)
    with pytest.raises(ChainError) as caught:
        read_chain(path)
    assert str(path) in str(caught.value)
    assert BAD_DRN[text] in str(caught.value)


BAD_TRA = {
    "": ":1: a .tra file of a Markov chain begins with",
    "2\n": ":1: a .tra file",
    "0 0\n": ":1: a chain needs at least one node",
    "2 2 2\n0 0 0 1\n": ":1: a .tra file",
    "2 1\n\n0 1\n": ":3: not a transition",
    "2 1\nx 1 1\n": ":2: not a state",
    "2 1\n0 7 1\n": ":2: a state 7",
    "2 1\n-1 0 1\n": ":2: a state -1",
    "2 3\n0 1 1\n1 1 1\n": "2 transitions, but its first line says 3",
    "2 2\n0 1 0.99999\n1 1 1\n": "sum to 0.99999",
    "1 1\n0 0 1e999/1\n": ":2: not a transition: '0 : 1e999/1'",
    "1 1\n0 0 1e99999999/1e99999999\n": ":2: not a transition",
    "1 1\n0 0 1/1e-99999999\n": ":2: not a transition",
    "100000000000 1\n0 0 1\n": ":1: 100,000,000,000 states, and 1 transitions: every state has one",
    "99999999999999999999999 1\n0 0 1\n": ":1: 99,999,999,999,999,999,999,999 states, and 1 transitions",
    "99999999999 99999999999\n0 0 1\n": "more states than the 2,147,483,647",
    f"1 1\n0 {LONG} 1\n": ":2: not a transition",
    f"{LONG} 1\n0 0 1\n": ":1: a .tra file",
}


@pytest.mark.parametrize("text", BAD_TRA, ids=range(len(BAD_TRA)))
def test_bad_tra_is_an_error_with_its_line(tmp_path, text):
    path = tmp_path / "bad.tra"
    path.write_text(text)
    with pytest.raises(ChainError) as caught:
        read_chain(path)
    assert f"{path}:" in str(caught.value)
    assert BAD_TRA[text] in str(caught.value)


BAD_LAB = {
    "": None,
    "init\n": ":1: a .lab file begins",
    '0="init" 1="init"\n': ":1: a .lab file begins",
    '0="init"\n0 0\n': ":2: not a state with its labels",
    '0="init"\n9: 0\n': ":2: a state 9",
    '0="init"\n0: 4\n': ":2: no label has the number 4",
    f'0="init"\n{LONG}: 0\n': ":2: not a state with its labels",
    f'0="init"\n0: 0 {LONG}\n': ":2: not a state with its labels",
    f'{LONG}="init"\n0: 0\n': ":1: a .lab file begins",
}


@pytest.mark.parametrize("text", BAD_LAB, ids=range(len(BAD_LAB)))
def test_bad_labels_are_an_error_with_their_line(tmp_path, text):
    (tmp_path / "c.tra").write_text("1 1\n0 0 1\n")
    (tmp_path / "c.lab").write_text(text)
    if BAD_LAB[text] is None:
        assert read_chain(tmp_path / "c.tra").names == ("0",)
        return
    with pytest.raises(ChainError) as caught:
        read_chain(tmp_path / "c.tra")
    assert f"{tmp_path / 'c.lab'}{BAD_LAB[text]}" in str(caught.value)


def test_chances_as_small_as_no_float_are_none(tmp_path):
    (tmp_path / "c.tra").write_text("2 3\n0 1 1\n0 0 1e-99999999/3\n1 1 1\n")
    assert read_chain(tmp_path / "c.tra").P.toarray().tolist() == [[0, 1], [0, 1]]


def test_files_that_can_not_be(tmp_path):
    with pytest.raises(ChainError, match=r"can't read the chain .*No such file"):
        read_chain(tmp_path / "none.drn")
    with pytest.raises(ChainError, match=r"\.drn \(Storm\) or \.tra \(PRISM\)"):
        read_chain(tmp_path / "none.csv")
    with pytest.raises(OutputError, match=r"not 'nothing'"):
        write_chain(shop(), tmp_path / "none")
    with pytest.raises(OutputError, match="can't write"):
        write_chain(shop(), tmp_path / "no" / "such.drn")
    (tmp_path / "binary.drn").write_bytes(bytes(range(256)))
    with pytest.raises(ChainError):
        read_chain(tmp_path / "binary.drn")


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_is_overwritten_unasked(tmp_path, format):
    path = tmp_path / f"c.{format}"
    write_chain(shop(), path)
    before = path.read_bytes()
    with pytest.raises(OutputError, match="there already"):
        write_chain(pit(), path)
    assert path.read_bytes() == before
    same(pit(), written(pit(), path))
    assert not [p for p in Path(tmp_path).iterdir() if "draft" in p.name]


def test_labels_alone_are_not_overwritten_either(tmp_path):
    (tmp_path / "c.lab").write_text("mine")
    with pytest.raises(OutputError, match=r"c\.lab is there already"):
        write_chain(shop(), tmp_path / "c.tra")
    assert not (tmp_path / "c.tra").exists()

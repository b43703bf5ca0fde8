"""The report and the sentences in it."""

import re
from html.parser import HTMLParser

import pytest

import flowstat as fs
from flowstat.explain.sentences import absorption_sentences, data_sentences, loop_sentence

STRANGE = 'a -> "<script>alert(1)</script>"; a -> "b & c"; "b & c" -> "b & c" @0.5; "b & c" -> "ünï" @0.5;'


def chain_of(text, table=(), starts=()):
    graph = fs.parse_graph(text)
    return fs.estimate(fs.Counts(dict(table), dict(starts)), graph)


class Balance(HTMLParser):
    void = frozenset({"meta", "br", "img", "hr", "link", "input"})

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("text", ["a", "a; b; c", "a -> a", STRANGE, "a -> b -> a", "a/x -> a @0.2; a/y -> b @0.8"])
def test_html_is_whole_and_self_contained(text, tmp_path):
    path = fs.report(chain_of(text), tmp_path / "r.html")
    html = path.read_text()
    parser = Balance()
    parser.feed(html)
    assert not parser.open
    assert "<script" not in html
    assert not re.search(r"(src|href)=[\"'](?!#)", html), "nothing is loaded from elsewhere"
    assert "nan" not in html.lower().split()


def test_same_input_same_bytes(tmp_path):
    chain = chain_of(STRANGE)
    assert (
        fs.report(chain, tmp_path / "a.html", title="t").read_bytes()
        == fs.report(chain, tmp_path / "b.html", title="t").read_bytes()
    )


def test_markdown_has_every_section(tmp_path):
    text = fs.report(chain_of("a/retry -> a @0.25; a/ok -> b"), tmp_path / "r.md").read_text()
    for heading in ("Where the numbers come from", "Loops", "Most probable cycles", "Where runs end"):
        assert f"## {heading}" in text
    assert "entered in 25.0% of runs, 1.333 rounds" in text


def test_unwritable_places_are_clear_errors(tmp_path):
    with pytest.raises(fs.OutputError, match=r"\.html or \.md"):
        fs.report(chain_of("a"), tmp_path / "r.pdf")
    with pytest.raises(fs.OutputError, match="can't write"):
        fs.report(chain_of("a"), tmp_path / "nowhere" / "r.html")


def test_the_sentence_of_a_self_loop():
    (loop,) = fs.loops(chain_of("pay/retry -> pay @0.25; pay/ok -> ship @0.75")).loops
    assert loop_sentence(loop) == (
        "pay -> pay (self-injection, key `retry`): entered in 25.0% of runs, 1.333 rounds on average; "
        "leaves to ship 100%; carries 57.1% of all events; gain 0.25, dampens."
    )


def test_the_sentence_of_a_trap():
    chain = chain_of("a -> b -> c -> b")
    (loop,) = fs.loops(chain).loops
    assert "never left: such a run never ends" in loop_sentence(loop)
    assert "stuck for ever in {b, c} in 100%" in absorption_sentences(fs.absorption(chain))[0]


def test_data_sentences_name_what_needs_attention():
    graph = fs.parse_graph("a -> b")
    counts = fs.Counts({("x", ""): 3}, {"x": 3}, undeclared={("x", "y"): 1}, pending={"x": 2})
    said = " ".join(data_sentences(fs.estimate(counts, graph)))
    assert "undeclared" in said
    assert "is it the right graph?" in said
    assert "never handled (status pending): 2 in all, x 2" in said

"""What changed, as sentences that a reviewer can read aloud; and what of it a rule forbids."""

from __future__ import annotations

from collections.abc import Iterator
from math import isinf

from flowstat.estimate.chain import END
from flowstat.explain.diff_fail import Rule
from flowstat.explain.diff_results import AnswerChange, ArrowChange, Diff, NodeChange
from flowstat.explain.sentences import percent
from flowstat.read.words import shown
from flowstat.results import counted, number

__all__ = ["diff_sentences", "violations"]

NAMED = 10
"""How many arrows, and how many answers, are told one by one."""


def diff_sentences(diff: Diff) -> list[str]:
    """Return what was found: how many nodes changed, which arrows of theirs, what is new or gone, which answers."""
    changed = [node for node in diff.nodes if node.found and node.seen == "both"]
    said = []
    if not diff.found:
        said.append(
            f"No change was found among {counted(diff.tested, 'tested node')}: what differs may be chance. Changes "
            "that are too small for these numbers of events to show may be there."
        )
    elif changed:
        said.append(f"{len(changed):,} of {counted(diff.tested, 'tested node')} changed: {_named(changed)}.")
    arrows = [arrow for arrow in diff.arrows.arrows if arrow.found]
    said += [_arrow(arrow, diff.arrows.level) for arrow in arrows[:NAMED]]
    said += _rest(len(arrows), "changed arrow")
    odd = {node.node for node in diff.nodes if node.seen != "both"}
    for seen, what in (("new", "Never seen before"), ("gone", "Not seen any more")):
        nodes = [shown(node.node) for node in diff.nodes if node.seen == seen]
        if nodes:
            said.append(
                f"{what}: {counted(len(nodes), 'node')}, {', '.join(nodes[:NAMED])}{', ...' * (len(nodes) > NAMED)}."
            )
        few = [
            arrow for arrow in diff.arrows.arrows if arrow.seen == seen and not arrow.found and arrow.source not in odd
        ]
        if few:
            pairs = [f"{_pair(arrow)} ({_count(arrow)})" for arrow in few]
            said.append(f"{what}, which may be chance: {', '.join(pairs[:NAMED])}{', ...' * (len(pairs) > NAMED)}.")
    answers = [answer for answer in diff.answers.answers if answer.found]
    said += [_answer(answer, diff.answers.level) for answer in answers[:NAMED]]
    said += _rest(len(answers), "changed answer")
    return said


def violations(diff: Diff, rule: Rule) -> Iterator[str]:
    """Yield, as sentences, what a rule forbids: see `Diff.failing`."""
    level, kind, amount = diff.arrows.level, rule.kind, rule.amount
    if kind in ("any", "node"):
        for node in diff.nodes:
            if node.found and (node.variation or (1.0 if node.seen != "both" else 0.0)) >= amount:
                yield _node(node)
    if kind in ("any", "share", "arrow"):
        for arrow in diff.arrows.arrows:
            size = abs(arrow.difference or 0.0) if kind != "arrow" else max(arrow.messages_before, arrow.messages_after)
            if arrow.found and size >= amount and (kind != "arrow" or (arrow.seen != "both" and arrow.target != END)):
                yield _arrow(arrow, level)
    if kind in ("any", "outcome", "flow", "events", "loop"):
        kinds = {"loop": ("loop", "rounds", "gain"), "any": ("outcome", "flow", "events", "loop", "rounds", "gain")}
        for answer in diff.answers.answers:
            if answer.found and answer.kind in kinds.get(kind, (kind,)) and _size(answer) >= amount:
                yield _answer(answer, level)
    if kind == "new":
        for node in diff.nodes:
            if node.seen == "new" and node.events_after >= amount:
                yield f"{shown(node.node)} is new: {counted(node.events_after, 'event')}."
        for arrow in diff.arrows.arrows:
            if arrow.seen == "new" and arrow.target != END and arrow.messages_after >= amount:
                yield f"{_pair(arrow)} was never seen before: {_count(arrow)}."


def _size(answer: AnswerChange) -> float:
    """Return by how much an answer changed: a chance by itself, numbers by their part of what was before."""
    if answer.difference is None:
        return 0.0
    if answer.kind in ("events", "rounds", "gain") and answer.before:
        return abs(answer.difference) / abs(answer.before)
    return abs(answer.difference)


def _named(nodes: list[NodeChange]) -> str:
    return ", ".join(shown(node.node) for node in nodes[:NAMED]) + ", ..." * (len(nodes) > NAMED)


def _rest(n: int, what: str) -> list[str]:
    return [f"... and {counted(n - NAMED, f'more {what}')}."] if n > NAMED else []


def _node(node: NodeChange) -> str:
    if node.seen != "both":
        n = node.events_after if node.seen == "new" else node.events_before
        return (
            f"{shown(node.node)} is {node.seen}: {counted(n, 'event')} {'after' if node.seen == 'new' else 'before'}."
        )
    moves = ""
    if node.moves is not None and node.effect is not None:
        by = f"{node.effect:+.3g} a run" if node.moves == "events" else _points(node.effect)
        moves = f"; of the change of {shown(node.moves)} it makes {by}"
    return f"{shown(node.node)} does otherwise in {percent(node.variation or 0.0)} of its events{moves}."


def _pair(arrow: ArrowChange) -> str:
    keys = [key for key in arrow.key if key != "#"]
    return f"{shown(arrow.source)}{'/' + shown(keys[0]) if len(keys) == 1 else ''} -> {shown(arrow.target)}"


def _count(arrow: ArrowChange) -> str:
    n = arrow.messages_after if arrow.seen == "new" else arrow.messages_before
    return counted(n, "event" if arrow.target == END else "message") + ("" if arrow.declared else ", undeclared")


def _arrow(arrow: ArrowChange, level: float) -> str:
    said = f"{_pair(arrow)}"
    if arrow.seen != "both":
        said += f" is {arrow.seen} ({_count(arrow)})"
    if arrow.before is None or arrow.after is None or arrow.difference is None:
        return f"{said}."
    said += f"{',' if arrow.seen != 'both' else ' went'} from {percent(arrow.before)} to {percent(arrow.after)}"
    if arrow.low is not None and arrow.high is not None:
        said += f": {_points(arrow.difference)}, {level:.0%} interval {_between(arrow.low, arrow.high)}"
    return f"{said}."


def _points(difference: float) -> str:
    """Return a difference of shares in points of a percent."""
    return f"{100 * difference:+.3g} points"


def _between(low: float, high: float) -> str:
    return f"{100 * low:+.3g} to {100 * high:+.3g}"


ABOUT = {
    "outcome": "The chance to end at {}",
    "events": "The mean number of events of a run",
    "loop": "The chance to go round {}",
    "rounds": "The rounds of a run that goes round {}",
    "gain": "The gain of {}",
    "flow": "The chance of the flow {}",
}


def _answer(answer: AnswerChange, level: float) -> str:
    about = ABOUT[answer.kind].format(shown(answer.name, 200))
    chance = answer.kind in ("outcome", "loop", "flow")
    if answer.difference is None or isinf(answer.difference):
        return f"{about} went from {number(answer.before)} to {number(answer.after)}."
    old, new = (percent(x) if chance else number(x) for x in (answer.before, answer.after))
    said = f"{about} went from {old} to {new}: {_points(answer.difference) if chance else f'{answer.difference:+.3g}'}"
    if answer.low is not None and answer.high is not None:
        between = _between(answer.low, answer.high) if chance else f"{answer.low:+.3g} to {answer.high:+.3g}"
        said += f", {level:.0%} interval {between}"
    return f"{said}."

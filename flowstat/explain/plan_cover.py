"""The fewest runs that cover all arrows, or all pairs of arrows: a flow with integers, and the runs that it is made of.

A run is a tree of events: at each a step is chosen, and each of the step's targets gets a copy. Let x count how often
each step is taken at each state, and b, e how many runs begin, and messages end, there. Whatever runs there are, `b +
(copies that come) = x + e` at each state, and all that is to be covered is by some x. The other way round, numbers with
this property are those of b runs, if from where runs begin one comes to all steps that are taken: messages are
followed from event to event, each taking a step that is left over; and what is left over then, having as many copies
come as go at each state, is a detour that begins and ends at an event of some run (as Hierholzer made Euler's tours).
So the least sum of b, and then of x, is that of integers (an integer program, by HiGHS); where every step has one
target it is a minimum flow with lower bounds. Steps that nothing comes to are cut off one set at a time: to a set that
alone covers something, something has to come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from flowstat.errors import AnalysisError
from flowstat.explain.plan_program import Program
from flowstat.explain.plan_states import States
from flowstat.explain.plan_steps import Step, Ways

__all__ = ["Cover", "Event", "cover"]

CUTS = 200
"""How often sets that nothing comes to are cut off."""


@dataclass(eq=False)
class Event:
    """An event of a planned run: a state, the step taken there (None: the run ends), and the events it sends to."""

    state: int
    step: Step | None = None
    then: list[Event] = field(default_factory=list)


@dataclass(frozen=True)
class Cover:
    """Planned runs, each by its first event; `least` runs, and `least_events` in so many, are needed, proven."""

    runs: list[Event]
    least: int
    least_events: int | None


def cover(ways: Ways, states: States) -> Cover:
    """Return the fewest runs that cover all that can be covered, and of these such that have the fewest events.

    Raises
    ------
    AnalysisError
        If there is no plan that is found in time.
    """
    if not states.source:
        return Cover([], 0, 0)
    program = Program(ways, states)
    for _ in range(CUTS):
        begin, taken, ended, least, least_events = program.solved()
        runs, rest = _runs(states, begin, taken, ended)
        if not rest or not program.cut(rest, taken):
            return Cover(runs, least, least_events)
    raise AnalysisError("no plan was found in time: plan for a part of the graph, from another start")


def _runs(states: States, begin: Iterable[int], taken: list[int], ended: list[int]) -> tuple[list[Event], set[int]]:
    """Take numbers of steps apart into runs; return them, and the ways that are left over, which no run comes to."""
    left: list[list[list[int]]] = [[] for _ in states.node]
    for w, k in enumerate(taken):
        if k:
            left[states.source[w]].append([w, k])
    ends = list(ended)
    events: list[list[Event]] = [[] for _ in states.node]

    def follow(first: Event, home: int | None) -> Event | None:
        """Follow a message and its copies; return the one that is left at home, where a detour began."""
        queue, back = deque([first]), None
        while queue:
            event = queue.popleft()
            s = event.state
            events[s].append(event)
            if left[s]:
                way = left[s][-1]
                way[1] -= 1
                if not way[1]:
                    left[s].pop()
                event.step = states.step[way[0]]
                event.then = [Event(j) for j in states.lands[way[0]]]
                queue.extend(event.then)
            elif s == home and back is None:
                back = event
                events[s].pop()
            else:
                ends[s] -= 1
        return back

    runs = []
    for s, k in zip(states.begins, begin, strict=True):
        for _ in range(k):
            runs.append(Event(s))
            follow(runs[-1], None)
    again = True
    while again:
        again = False
        for s in range(len(states.node)):
            while left[s] and events[s]:
                again = True
                event = events[s].pop()
                # What followed the event follows where the detour comes back.
                step, then = event.step, event.then
                back = follow(event, s)
                assert back is not None
                back.step, back.then = step, then
                events[s].append(back)
    return runs, {way for some in left for way, _ in some}

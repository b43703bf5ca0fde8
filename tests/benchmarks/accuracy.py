"""How right the answers about hard chains are: the relative error of flowstat and of other tools, side by side."""

import multiprocessing
import os
import warnings

import numpy as np
from scipy import sparse

from tests.benchmarks.peers import Storm, closed
from tests.hard_chains import HARD, relative
from tests.test_hard_chains import answer


def setting(case):
    """Return the matrix with its ends, the position of the start, what is to be hit, and where runs end."""
    chain = case.chain()
    goal, n = chain.index[case.goal], len(chain.names)
    ends = bool(chain.stop[goal])
    others = np.arange(n) != goal
    matrix = closed(chain.P, chain.stop, others.astype(int) if ends else None) if chain.stop.any() else chain.P
    hit = n if ends and case.question == "chance" else goal
    return sparse.csr_array(matrix), chain.index[case.start], hit, list(range(n, matrix.shape[0]))


def solved(case):
    """By scipy's sparse LU, as one writes it first."""
    from scipy.sparse.linalg import splu

    matrix, start, hit, ends = setting(case)
    n = matrix.shape[0]
    if case.question == "law":
        system = sparse.csc_array(sparse.vstack([(sparse.eye_array(n) - matrix).T.tocsr()[:-1], np.ones((1, n))]))
        return splu(system).solve(np.eye(n)[-1])[hit]
    out = {hit, *ends} if case.question in ("chance", "steps") else set(ends)
    keep = np.array([k for k in range(n) if k not in out])
    system = sparse.csc_array(sparse.eye_array(len(keep)) - matrix[keep][:, keep])
    at = int(np.flatnonzero(keep == start)[0])
    if case.question == "visits":
        return splu(system).solve(np.eye(len(keep))[at], trans="T")[int(np.flatnonzero(keep == hit)[0])]
    right = matrix[keep][:, [hit]].toarray().ravel() if case.question == "chance" else np.ones(len(keep))
    return splu(system).solve(right)[at]


def by_pydtmc(case):
    import pydtmc

    matrix, start, hit, _ = setting(case)
    chain = pydtmc.MarkovChain(matrix.toarray(), [f"s{k}" for k in range(matrix.shape[0])])
    if case.question == "chance":
        return chain.hitting_probabilities([hit])[start]
    if case.question == "events":
        return chain.mean_absorption_times()[start]
    if case.question == "steps":
        return chain.hitting_times([hit])[start]
    if case.question == "visits":
        return chain.fundamental_matrix[start, hit]
    return chain.pi[0][hit]


def by_quantecon(case):
    import quantecon

    matrix, _, hit, _ = setting(case)
    return quantecon.MarkovChain(matrix.toarray()).stationary_distributions[0][hit] if case.question == "law" else None


def by_deeptime(case):
    from deeptime.markov.tools import analysis

    matrix, start, hit, ends = setting(case)
    if case.question == "chance":
        return analysis.hitting_probability(matrix.toarray(), [hit])[start]
    if case.question in ("events", "steps"):
        return analysis.mfpt(matrix.toarray(), ends if case.question == "events" else [hit])[start]
    return analysis.stationary_distribution(matrix.toarray())[hit] if case.question == "law" else None


def by_storm(case):
    matrix, start, hit, ends = setting(case)
    order = [start, *(k for k in range(matrix.shape[0]) if k != start)]
    moved = sparse.csr_array(matrix[order][:, order])
    place = {k: position for position, k in enumerate(order)}
    storm = Storm(moved, {"hit": place[hit]}, ends=len(ends))
    asked = {"chance": 'P=? [F "hit"]', "events": 'R{"steps"}=? [F "end"]', "steps": 'R{"steps"}=? [F "hit"]'}
    if case.question in asked:
        return storm.ask(asked[case.question])
    return storm.visits(place[hit]) if case.question == "visits" else storm.stationary(place[hit])


CONTEXT = multiprocessing.get_context("fork")

TOOLS = {
    "flowstat": lambda case: answer(case)[0],
    "PyDTMC": by_pydtmc,
    "QuantEcon": by_quantecon,
    "deeptime": by_deeptime,
    "scipy LU": solved,
    "Storm": by_storm,
}


LONG = 20
"""Seconds after which a tool is not waited for."""


def play(tool, case, report):
    """Send how far a tool is off, relatively, or a text where it gives no answer; nothing is written meanwhile."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    warnings.simplefilter("ignore")
    try:
        found = TOOLS[tool](case)
    except Exception as refused:  # whatever it is that the tool raises
        report.send(type(refused).__name__[:10])
    else:
        report.send("-" if found is None else relative(float(found), case.exact))


def error(tool, case):
    """Return what `play` sends from a process of its own, since some tools don't come back."""
    here, there = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=play, args=(tool, case, there))
    process.start()
    there.close()
    try:
        found = here.recv() if here.poll(LONG) else "no end"
    except EOFError:
        found = "crash"
    process.kill()
    process.join()
    return found


def table():
    """Print the errors, and return the largest of flowstat."""
    print(f"{'relative error':34}" + "".join(f"{tool:>11}" for tool in TOOLS))
    worst = 0.0
    for case in HARD:
        errors = {tool: error(tool, case) for tool in TOOLS}
        cells = (each if isinstance(each, str) else f"{each:.1e}" for each in errors.values())
        print(f"{case.name:34}" + "".join(f"{cell:>11}" for cell in cells), flush=True)
        worst = max(worst, errors["flowstat"] if isinstance(errors["flowstat"], float) else np.inf)
    return worst

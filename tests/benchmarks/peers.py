"""The tools that flowstat's chain answers are compared with, asked as their documents say."""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu


def closed(P, stop, groups=None):
    """Return the row-stochastic matrix with states more where runs end: one for each group of nodes, or just one.

    `groups` has the number of each node's group, from 0 on.
    """
    n = len(stop)
    groups = np.zeros(n, np.int64) if groups is None else np.asarray(groups)
    more = int(groups.max()) + 1
    whole, last = P.tocoo(), np.flatnonzero(stop)
    extra = n + np.arange(more)
    rows = np.concatenate([whole.row, last, extra])
    columns = np.concatenate([whole.col, n + groups[last], extra])
    values = np.concatenate([whole.data, stop[last], np.ones(more)])
    return sparse.csr_array((values, (rows, columns)), shape=(n + more, n + more))


def restarted(P, stop, start=0):
    """Return the matrix in which each end starts a new run at a state."""
    n = len(stop)
    back = sparse.csr_array((stop, (np.arange(n), np.full(n, start))), shape=(n, n))
    return sparse.csr_array(P + back)


class Storm:
    """A chain in Storm, with its answers from state 0."""

    def __init__(self, matrix, labels=None, sound=True, ends=1, precision=None):
        import stormpy
        import stormpy.datastructures
        import stormpy.developer
        import stormpy.environments
        import stormpy.models

        self.stormpy = stormpy
        self.environment = stormpy.environments.sound() if sound else stormpy.environments.Environment()
        if precision:
            self.environment.solver().native().precision = stormpy.Rational(precision)
        n = matrix.shape[0]
        matrix = sparse.csr_array(matrix)
        matrix.sort_indices()
        builder = stormpy.datastructures.SparseMatrixBuilder(
            rows=n, columns=n, entries=matrix.nnz, force_dimensions=True
        )
        offsets, columns, values = matrix.indptr.tolist(), matrix.indices.tolist(), matrix.data.tolist()
        for i in range(n):
            for k in range(offsets[i], offsets[i + 1]):
                builder.add_next_value(i, columns[k], values[k])
        labelling = stormpy.models.StateLabeling(n)
        for label, state in {"init": 0, **(labels or {})}.items():
            labelling.add_label(label)
            labelling.add_label_to_state(label, state)
        labelling.add_label("end")
        for state in range(n - ends, n):
            labelling.add_label_to_state("end", state)
        steps = stormpy.models.SparseRewardModel(optional_state_reward_vector=[1.0] * (n - ends) + [0.0] * ends)
        parts = stormpy.models.SparseModelComponents(
            transition_matrix=builder.build(),
            state_labeling=labelling,
            reward_models={"steps": steps},
            rate_transitions=False,
        )
        self.model = stormpy.models.SparseDtmc(parts)

    def ask(self, question, state=0):
        """Return the answer from a state; what is worked out are those of all states."""
        [asked] = self.stormpy.parse_properties(question)
        found = self.stormpy.model_checking(self.model, asked, environment=self.environment, only_initial_states=False)
        return found.get_value(state)

    def visits(self, state):
        compute = self.stormpy.developer.compute_expected_visiting_times_with_sparse_engine
        return compute(self.environment, self.model).get_value(state)

    def stationary(self, state):
        compute = self.stormpy.developer.compute_steady_state_distribution_with_sparse_engine
        return compute(self.environment, self.model).get_value(state)


def factors(P, right, transposed=False):
    """Return the answer of scipy's sparse LU of I - P, as one writes it first."""
    lu = splu(sparse.csc_array(sparse.eye_array(P.shape[0]) - P))
    return lu.solve(right, trans="T" if transposed else "N")

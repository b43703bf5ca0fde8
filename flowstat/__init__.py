"""flowstat explains event-driven programs: a graph and its traces become a Markov chain."""

__version__ = "0.1.0"

"""Graph and traces become counts, and counts a chain with its uncertainty."""

"""A chain becomes one result per question."""

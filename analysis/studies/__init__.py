"""From trials to one row a study: its steps to target, its best point, and the edges of its box."""

"""A training function of the user's: `def train(config, report)`, run in a process of its own for every trial."""

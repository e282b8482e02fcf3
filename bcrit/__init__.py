"""Floor 4: the command line. It composes the floors below and computes nothing."""

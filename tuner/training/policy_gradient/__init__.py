"""Policy gradients: what a batch of environment frames is, its loss, and the run that learns from it."""

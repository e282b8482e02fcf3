"""The distance of the weights from their start along a run, as a random walk (Hoffer et al. 2017)."""

"""One short run before a study: tuned enough to measure the gradient noise scale and to time a step."""

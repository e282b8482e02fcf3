"""Gradient noise scales that were measured along the confirming runs, pooled and set beside the fitted `b_crit`."""

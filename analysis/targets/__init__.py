"""Steps to many targets out of the stored curves, and what they say about b_crit."""

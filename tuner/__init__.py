"""Floor 3: runs an experiment on Ray Tune. Importing it loads neither Ray nor torch."""

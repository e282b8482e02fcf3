"""Data sets: found, read once, and kept in a memory-mapped form that all trials of a machine share."""

"""The run folder: what stores, and reads, the tables of a run."""

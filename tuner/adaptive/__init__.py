"""`bcrit adaptive`: batch sizes that follow the noise scale, trained and held against fixed ones."""

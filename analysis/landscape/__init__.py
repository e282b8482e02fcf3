"""What was measured of the landscape around the winners of a run: as it is stored, and what it says."""

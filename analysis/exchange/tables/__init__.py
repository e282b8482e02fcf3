"""Tables of trials and measurements: a user's own, and a run's as CSV or Parquet."""

"""MLPerf's reference convergence points."""

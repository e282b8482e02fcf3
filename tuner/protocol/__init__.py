"""The search protocol: pure functions of what has been recorded."""

"""A number with its interval."""

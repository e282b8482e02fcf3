"""The curve through a table of steps to target: estimate, interval, shape, and what the data do not say."""

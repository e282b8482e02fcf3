"""From a fit, step times and prices to the batch size to train at."""

"""Where the best hyperparameters of every study lie, how surely, and by which law they move with the batch size."""

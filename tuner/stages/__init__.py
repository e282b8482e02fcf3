"""What is trained beside a study, as trials of the same session: pilots, landscapes, adaptive batch sizes."""

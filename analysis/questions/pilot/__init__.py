"""Which batch sizes, learning rates and budget should be studied, and what will it cost? What a pilot run says."""

"""Floor 1: training science. It knows neither Ray nor files."""

"""Floor 1: what can be trained. It knows neither Ray nor files."""

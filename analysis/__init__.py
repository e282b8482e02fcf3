"""Floor 2: from tables to fits, recommendations and reports. What users call is in `bcrit` itself."""

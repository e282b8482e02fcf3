"""The report: one HTML page that needs no other file, for a reader who does not know the tool."""

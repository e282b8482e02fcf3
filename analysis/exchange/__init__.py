"""Runs from elsewhere as run folders, and run folders for elsewhere: one file a format, one way in (`write_run`)."""

"""The run folder: tables, parts, streams, crossings; and tables that people bring."""

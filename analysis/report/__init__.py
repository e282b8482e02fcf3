"""The report: one HTML page that needs no other file, for a reader who does not know the tool."""

from bcrit.analysis.report.build import build_report

__all__ = ["build_report"]

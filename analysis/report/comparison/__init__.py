"""The page of a comparison: runs side by side, one HTML file that needs no other."""

from bcrit.analysis.report.comparison.build import GENERATOR, build_comparison

__all__ = ["GENERATOR", "build_comparison"]

"""Runs side by side: which of their numbers differ by more than chance, and which run needs fewer steps where."""

from bcrit.analysis.comparison.compare import Comparison, compare
from bcrit.analysis.comparison.source import StepsTable

__all__ = ["Comparison", "StepsTable", "compare"]

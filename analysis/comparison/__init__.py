"""Runs side by side: which of their numbers differ by more than chance, and which run needs fewer steps where."""

from analysis.comparison.compare import Comparison, compare
from analysis.comparison.source import StepsTable

__all__ = ["Comparison", "StepsTable", "compare"]

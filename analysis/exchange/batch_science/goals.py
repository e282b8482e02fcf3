"""The goals of Shallue et al. 2018 for the workloads of their archive."""

from __future__ import annotations

from fnmatch import fnmatchcase

from bcrit.search_spaces.target import Target

# The first pattern that fits counts; folders as in the archive. Goals from the notebook that reproduces the paper's
# figures: figure 1, and figures 3, 5 and 6 for models and subsets that are not in it. `solution_quality` has no goal:
# it asks for the best value under a budget (section 4.8).
_GOALS = (
    ("*solution_quality/*", None),
    ("*mnist_subsets/*", "val/classification_error < 0.02"),
    ("*imagenet_subsets/*", "val/classification_error < 0.3"),
    ("*fashion_mnist/*", "val/classification_error < 0.1"),
    ("*mnist/simple_cnn_*", "val/classification_error < 0.01"),
    ("*mnist/fc_*", "val/classification_error < 0.03"),
    ("*cifar_10/*", "val/classification_error < 0.3"),
    ("*imagenet/resnet_50/*", "val/classification_error < 0.25"),
    ("*imagenet/vgg_11/*", "val/classification_error < 0.35"),
    ("*open_images_v4/*", "val/average_precision > 0.31"),
    ("*lm1b/transformer_base/*", "val/cross_entropy_error < 3.9"),
    ("*lm1b/transformer_*", "val/cross_entropy_error < 4.2"),
    ("*lm1b/lstm/*", "val/cross_entropy_error < 3.9"),
    ("*common_crawl/*", "val/cross_entropy_error < 3.9"),
)


def paper_goal(workload: str) -> Target | None:
    """The goal that the paper sets a workload; None where it sets none.

    Args:
        workload: its folder in the archive, `dataset/model/optimizer`.

    Returns:
        The target.

    >>> print(paper_goal("open_images_v4/resnet_50/nesterov_momentum"))
    val/average_precision > 0.31
    """
    for pattern, goal in _GOALS:
        if fnmatchcase(workload, pattern):
            return None if goal is None else Target.model_validate(goal)
    return None


__all__ = ["paper_goal"]

"""Floor 0: what is declared before anything runs."""

from bcrit.search_spaces.dimensions import Box, Choice, Fixed, Integer, Linear, Log, ReverseLog
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.load import dump_experiment, parse_experiment, read_yaml
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.space import Point, SearchSpace
from bcrit.search_spaces.target import Crossing, Direction, Target

__all__ = [
    # dimensions and spaces
    "Box",
    "Linear",
    "Log",
    "ReverseLog",
    "Integer",
    "Choice",
    "Fixed",
    "SearchSpace",
    "Point",
    # the experiment
    "Experiment",
    "read_yaml",
    "parse_experiment",
    "dump_experiment",
    "InputError",
    # words
    "Target",
    "Direction",
    "Crossing",
    "Outcome",
    "Stage",
]

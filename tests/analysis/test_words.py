"""What is said in made-up situations that none of the stored runs is in, word for word: a stored file a topic.

`python -m tests.analysis.test_words` writes the stored words again.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import unified_diff
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bcrit.analysis.curve import HyperbolaFit, fit_hyperbola
from bcrit.analysis.curve.hyperbola import Hyperbola
from bcrit.analysis.curve.other_curves import PNorm
from bcrit.analysis.numbers import Estimate
from bcrit.analysis.optimum import Quantity, law_sentence
from bcrit.analysis.optimum.laws import LAWS, PLAIN_LAWS, judge
from bcrit.analysis.questions import adaptive, fit, landscape, recommend
from bcrit.analysis.questions.compare.sides import Side
from bcrit.analysis.questions.compare.steps import choice
from bcrit.analysis.questions.landscape.result import warm_sentences
from bcrit.analysis.questions.pilot import sentences
from bcrit.analysis.questions.pilot.study import Hint
from bcrit.analysis.report.build import answer, caveats
from bcrit.analysis.run import Run
from tests.analysis.optimum import test_laws as laws
from tests.analysis.questions.adaptive import made_up as schedules
from tests.analysis.questions.compare import made_up as comparisons
from tests.analysis.questions.landscape import made_up as networks
from tests.analysis.questions.pilot.made_up import pilot
from tests.analysis.recommendation import test_words as recommended
from tests.analysis.report import runs

STORED = Path(__file__).with_name("words")
B = 2.0 ** np.arange(2, 12)
FEW = np.array([8.0, 64, 512, 4096])
RISING = [223541, 78735, 33264, 22557, 18005, 10471, 7048, 5145]
UNKNOWN = Estimate(None, n=3, why="noise hides the gradient")
RATE, REST = Quantity("lr", "lr", False, LAWS), Quantity("1 - momentum", "momentum", True, PLAIN_LAWS)
PRICED = {"price_per_device_hour": 2.0}
ZIGZAG = np.exp(1.2 * (-1.0) ** np.arange(8))


def compared(case: str, across_targets: bool = False) -> tuple[str, ...]:
    told = comparisons.compared(case, across_targets)
    return (*told.sentences, *(f"note: {note}" for note in told.notes))


def chosen(slower: Mapping[float, Mapping[str, Any]], *others: Side) -> list[str]:
    """Of runs whose steps take so many times as long, each with its recommendation on such terms."""
    sides, usual = list(others), runs.usual()
    for factor, terms in slower.items():
        timed = usual.but(recorded=usual.trials.assign(train_seconds=factor * usual.trials["train_seconds"]))
        timed = timed.but(recommendation=runs.recommended(timed, **terms))
        sides.append(comparisons.labelled(f"{factor:g} times", timed))
    return list(choice(sides))


def timed_table(name: str, s_min: float) -> Side:
    """A table with a column of step times: a fixed second and more for more examples."""
    made = comparisons.table(name, s_min, 32.0)
    times = 1 + made.table["batch_size"] / 64
    return comparisons.labelled(name, replace(made, table=made.table.assign(step_seconds=times)))


def fitted(steps: Any, batch: Any = B, noise: float = 0.02) -> list[str]:
    errors = np.random.default_rng(3).normal(0, noise, len(batch))
    table = pd.DataFrame({"batch_size": batch, "steps": np.asarray(steps) * np.exp(errors)})
    return told(fit_hyperbola(table, unit="tokens"))


def told(found: HyperbolaFit) -> list[str]:
    said = fit.ask(runs.bent().but(fit=found))
    assert not isinstance(said, str)
    return [*said.sentences, *map(str, said.terminal)]


def widened() -> Run:
    run = runs.widened()
    return run.but(boundary=run.boundary.assign(widened_to=math.nan, round=1, kind="box"))


def surroundings(**more: Any) -> tuple[str, ...]:
    return landscape.sentences(networks.landscape(**more))


def some(wanted: Callable[[Any], bool]) -> tuple[Any, ...]:
    return tuple(filter(wanted, networks.landscape().networks))


def bare(**more: Any) -> tuple[Any, ...]:
    return tuple(replace(n, **more) for n in networks.landscape().networks)


def another_record(difference: float | None) -> tuple[str, ...]:
    first, *others = networks.landscape().networks
    return surroundings(networks=(replace(first, same_curve=False, curve_difference=difference), *others))


def warm(wanted: Callable[[Any], bool] = lambda _: True, **more: Any) -> list[str]:
    starts = networks.warm_starts()
    states = tuple(replace(state, **more) for state in starts.states if wanted(state))
    return warm_sentences(replace(starts, states=states))


def followed(**more: Any) -> tuple[str, ...]:
    return adaptive.sentences(schedules.adaptive(**more))


def lost() -> tuple[str, ...]:
    found = schedules.adaptive()
    one = replace(found.of("noise")[0], steps=None, examples=None, ratio=None, n_reached=3)
    answers = tuple(one if each.schedule == one.schedule else each for each in found.answers)
    return adaptive.sentences(replace(found, answers=answers))


SITUATIONS: dict[str, Mapping[str, Callable[[], Sequence[str]]]] = {
    "recommendation": {name: partial(recommended.said, name) for name in recommended.SITUATIONS},
    "compare": {name: partial(compared, name) for name in comparisons.CASES}
    | {"other targets, as asked for": lambda: compared("other targets", across_targets=True)},
    "choice": {
        "one is faster": lambda: chosen({4: {}, 1: {}, 9: {}}),
        "prices are known": lambda: chosen({4: PRICED, 1: PRICED}),
        "one price is known": lambda: chosen({4: {}, 1: PRICED}),
        "as long as each other": lambda: chosen({1: {}, 1.0001: {}}),
        "only one": lambda: chosen({1: {}}),
        "only one, and a table": lambda: chosen({1: {}}, comparisons.labelled("table", comparisons.SGD)),
        "tables with step times": lambda: list(choice([timed_table("a", 200), timed_table("b", 400)])),
        "one of two tables has step times": lambda: list(
            choice([timed_table("a", 200), comparisons.labelled("b", comparisons.SGD)])
        ),
        "other targets": lambda: list(
            choice([replace(timed_table(n, s), target=f"loss < {s}") for n, s in (("a", 200), ("b", 400))], True)
        ),
    },
    "fit": {
        "a clean curve": lambda: fitted(50 * (1 + 100 / B)),
        "a sharp knee": lambda: fitted(PNorm(50, 100, 2, 0).steps(B)),
        "a corner": lambda: fitted(np.maximum(50, 1600 / B[2:8]), B[2:8], 0.01),
        "no knee in sight": lambda: fitted(5e5 / B),
        "two studies": lambda: fitted(50 * (1 + 100 / FEW[:2]), FEW[:2], 0.05),
        "three studies": lambda: fitted(50 * (1 + 100 / FEW[:3]), FEW[:3], 0.05),
        "four studies": lambda: fitted(50 * (1 + 100 / FEW), FEW, 0.05),
        "a U": lambda: fitted(Hyperbola(50, 5000, 20).steps(B)),
        "a U of a language model": lambda: fitted(RISING, [32, 64, 128, 192, 256, 512, 1024, 2048], 0.0),
        "before the knee": lambda: fitted(
            [9299, 4660, 2351, 1183.5, 606, 316, 171.8], [16, 32, 64, 128, 256, 512, 1024], 0.0
        ),
        "computed numbers": lambda: fitted([4096, 2048, 1024, 512], [16, 32, 64, 128], 0.0),
    },
    "optimum": {
        "no law of a learning rate": lambda: [law_sentence(laws.verdict(ZIGZAG), RATE)],
        "no law of a momentum": lambda: [
            law_sentence(judge(PLAIN_LAWS, laws.B, ZIGZAG, ZIGZAG / 1.1, ZIGZAG * 1.1), REST)
        ],
        "laws that cannot be told apart": lambda: [
            law_sentence(
                laws.verdict(
                    laws.TRUTH["sqrt"][:5] * np.exp(0.3 * np.random.default_rng(2).normal(size=5)), 2.0, laws.B[:5]
                ),
                RATE,
            )
        ],
    },
    "page": {
        "nothing reached": lambda: answer(runs.partly(())),
        "not reached at the ends": lambda: caveats(runs.partly((32, 64, 128))),
        "not confirmed": lambda: caveats(runs.partly((8, 16), confirm=False)),
        "seeds that missed": lambda: caveats(runs.usual().but(studies=runs.usual().studies.assign(n_reached=2))),
        "at the end of a box": lambda: caveats(widened()),
        "decision, nothing reached": lambda: recommend.decision(runs.partly(())).sentences,
        "decision, not confirmed": lambda: (
            recommend.decision(runs.partly((8, 16, 32, 64, 128, 256), confirm=False)).sentences
        ),
        "decision, at the end of a box": lambda: recommend.decision(widened()).sentences,
    },
    "landscape": {
        "two seeds": surroundings,
        "all of the training set": lambda: surroundings(n_examples=64),
        "another record": lambda: another_record(0.02),
        "another record, beyond measure": lambda: another_record(None),
        "one batch size": lambda: surroundings(networks=some(lambda n: n.batch_size == 8), paths=()),
        "one seed": lambda: surroundings(networks=some(lambda n: n.number == 0)),
        "without numbers": lambda: surroundings(
            networks=bare(rises=(), top_eigenvalue=None, train_loss=None), paths=()
        ),
        "a metric beside": lambda: surroundings(networks=bare(metrics={"val_accuracy": 0.9}), metric="val_accuracy"),
        "warm starts": lambda: surroundings(warm_starts=networks.warm_starts()),
        "warm starts of one seed": lambda: warm(lambda state: state.number == 0),
        "warm starts without the un-tuned": lambda: warm(lambda state: state.kind != "un-tuned"),
        "warm starts without numbers": lambda: warm(last={}, sharpness=None, problem="its weights are not finite"),
    },
    "adaptive": {
        "five seeds": followed,
        "a pooled interval": lambda: followed(pooled=0.93, pooled_low=0.85, pooled_high=1.02, pooled_predicted=0.97),
        "a schedule that was not reached": lost,
        "no number": lambda: followed(pooled=None),
        "no chance": lambda: adaptive.sentences(replace(schedules.adaptive(1, 0.0), deterministic=True)),
    },
    "pilot": {
        "a proposal": lambda: sentences(pilot()),
        "clipped": lambda: sentences(pilot(around=Hint(40, 8, 400), n=500)),
        "a seed missed": lambda: sentences(pilot(steps_each=(100, None, 110))),
        "seeds apart": lambda: sentences(pilot(steps_each=(100, 80, 130))),
        "few steps": lambda: sentences(pilot(steps=4.0)),
        "at the end of its box": lambda: sentences(pilot(edge="high")),
        "one scale not resolved": lambda: sentences(pilot(simple=UNKNOWN)),
        "no scale resolved": lambda: sentences(pilot(around=Hint(None, 6.4, 640), simple=UNKNOWN, noise=UNKNOWN)),
        "no interval": lambda: sentences(pilot(simple=Estimate(80.0, n=1, why="one run"))),
        "far above the hint": lambda: sentences(pilot(around=Hint(10, 5, 20))),
        "no temperature": lambda: sentences(pilot(temperature=None)),
        "hot": lambda: sentences(pilot(temperature=40.0)),
        "cold": lambda: sentences(pilot(temperature=0.1)),
        "a step not timed": lambda: sentences(pilot(seconds=None)),
        "most seeds missed": lambda: sentences(pilot(steps=None, steps_each=(None, None, 90))),
        "no rate reached": lambda: sentences(pilot(steps=None, steps_each=(), around=Hint(None, 6.4, 640))),
        "no noise": lambda: sentences(
            pilot(around=Hint(None, 6.4, 640), no_noise="The noise of 'toy' cannot be measured", temperature=None)
        ),
    },
}


def text_of(topic: str) -> str:
    """What is said in every situation, a sentence a line."""
    return "".join(f"== {name}\n" + "".join(f"{said}\n" for said in tell()) for name, tell in SITUATIONS[topic].items())


def stored(topic: str) -> dict[str, str]:
    """What was said, by situation."""
    blocks = (STORED / f"{topic}.txt").read_text().split("== ")[1:]
    return {name: said for name, _, said in (block.partition("\n") for block in blocks)}


@pytest.mark.parametrize(("topic", "situation"), [(topic, name) for topic, of in SITUATIONS.items() for name in of])
def test_the_words_are_the_stored_ones(topic: str, situation: str) -> None:
    old, new = stored(topic)[situation].splitlines(), "\n".join(SITUATIONS[topic][situation]()).splitlines()
    lines = list(unified_diff(old, new, f"stored {topic}", "new", lineterm="", n=2))
    if lines:
        pytest.fail("\n".join(lines), pytrace=False)


def test_every_stored_situation_is_told() -> None:
    assert {path.stem for path in STORED.iterdir()} == set(SITUATIONS)
    assert {topic: list(stored(topic)) for topic in SITUATIONS} == {name: list(of) for name, of in SITUATIONS.items()}


if __name__ == "__main__":
    for topic in SITUATIONS:
        (STORED / f"{topic}.txt").write_text(text_of(topic))

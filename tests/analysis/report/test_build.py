"""Pages of runs and of comparisons: complete, in need of nothing else, no text taken for markup; the first screen."""

import ast
import functools
import re
import shlex
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
import yaml
from jinja2 import UndefinedError

from bcrit.analysis.records.run_folder import STATUS, RunFolder
from bcrit.analysis.report import Answer
from bcrit.analysis.report.build import (
    MOST_PANELS,
    Decision,
    _code,
    answer,
    build_report,
    caveats,
    decision,
    page_of,
    render,
    zoned,
)
from bcrit.analysis.run import Run
from bcrit.analysis.studies.driver import Driver
from tests.analysis.questions.compare import made_up
from tests.analysis.report import runs
from tests.bcrit.command import ROOT, bcrit, refused
from tests.golden.page import Page


def complete(analysis: Run, **limits: Any) -> Run:
    return runs.with_curves(analysis).but(recommendation=runs.recommended(analysis, **limits))


REPORTS: dict[str, Callable[[], Run]] = {
    "everything": lambda: complete(runs.usual(), max_steps=50),
    "hostile texts": lambda: complete(runs.hostile()),
    "no batch size keeps the limits": lambda: complete(runs.usual(), max_steps=1),
    "no step times": lambda: complete(runs.usual(), timed=False),
    "no recommendation": runs.usual,
    "some studies not reached": lambda: complete(runs.partly((32, 64, 128))),
    "two studies reached": lambda: complete(runs.partly((32, 64))),
    "one study reached": lambda: runs.partly((32,)),
    "nothing reached": lambda: runs.with_curves(runs.partly(())),
    "nothing confirmed": lambda: complete(runs.partly((8, 16, 32, 64, 128, 256), confirm=False)),
    "one study": runs.widened,
    "lack of fit": lambda: complete(runs.bent()),
    "no momentum": lambda: complete(runs.usual({"lr": "log from 0.01 to 10"})),
    "fixed learning rate": lambda: complete(runs.usual({"lr": 0.1})),
    "only a schedule's parameters": lambda: complete(runs.usual({"lr": 0.1, "schedule": "choice of constant, linear"})),
    "other hyperparameters": lambda: complete(
        runs.usual({"lr": 0.1, "width": "integer from 4 to 64", "mix": "linear from 0 to 1"})
    ),
    "many studies": lambda: complete(runs.usual(batch_sizes=tuple(2**k for k in range(MOST_PANELS + 1)))),
}
HOSTILE = ("hostile texts", "compare hostile texts")
COMPARED = [
    f"compare {name}" for name in ("two runs", "a run and tables", "hostile texts", "two units", "without a fit")
]
every_case = pytest.mark.parametrize("case", [*REPORTS, *COMPARED])


@functools.cache
def given(case: str) -> Run:
    return REPORTS[case]()


def answer_of(case: str) -> Answer:
    return made_up.compared(case.removeprefix("compare "))


@functools.cache
def text_of(case: str) -> str:
    return build_report(given(case)) if case in REPORTS else page_of(answer_of(case), "bcrit compare")


@functools.cache
def page_at(case: str) -> Page:
    return Page(text_of(case))


@every_case
def test_every_run_has_a_page_whose_places_for_figures_are_filled(case: str) -> None:
    page = page_at(case)
    places = [value or "" for name, value in page.attributes if name == "data-figure"]
    drawn = set(page.figures)
    if sum(name.startswith("trials") for name in drawn) > MOST_PANELS:  # one place with a list to choose from
        drawn = {"trials-1"} | {name for name in drawn if not name.startswith("trials")}
    assert sorted(places) == sorted(drawn)


@every_case
def test_every_figure_is_one_that_plotly_knows(case: str) -> None:
    for name, figure in page_at(case).figures.items():
        go.Figure(figure)  # raises for an unknown property or a value of the wrong type
        assert any(len(trace["x"]) for trace in figure["data"]), name


@every_case
def test_the_page_leads_nowhere_and_stays_small(case: str) -> None:
    text, page = text_of(case), page_at(case)
    assert not {"link", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    places = [(name, value) for name, value in page.attributes if name in ("src", "href", "srcset", "action")]
    assert not [name for name, value in places if name != "href" or not f"{value}".startswith("#")]
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    css = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in css and "@import" not in css
    assert "default-src 'none'" in text
    assert text.count("* plotly.js v") == 1 and len(text) < 6e6


@pytest.mark.parametrize(
    ("hostile", "usual"), [("hostile texts", "everything"), ("compare hostile texts", "compare two runs")]
)
def test_markup_from_users_is_text_in_the_page(hostile: str, usual: str) -> None:
    page, other = page_at(hostile), page_at(usual)
    assert len(page.scripts) == len(other.scripts) == 3
    assert set(page.tags) == set(other.tags)
    assert page.scripts[1:] == other.scripts[1:]
    assert runs.EVIL in "\n".join(page.lines)


@pytest.mark.parametrize("case", HOSTILE)
def test_markup_from_users_is_text_in_the_figures(case: str) -> None:
    """Plotly reads `<b>`, `<a>` and their like in every text, and names between %{ } in templates."""
    seen = []

    def check(value: Any) -> None:
        if isinstance(value, dict):
            assert not [key for key in value if key.endswith("template")]
            for key, inner in value.items():
                if key != "legendgroup":  # which is never shown
                    check(inner)
        elif isinstance(value, list):
            for inner in value:
                check(inner)
        elif isinstance(value, str):
            assert not re.search(r"<(?!br>)", value), value
            seen.append(value)

    figures = page_at(case).figures
    check(dict(figures))
    assert [text for text in seen if "script&gt;" in text]
    if case in REPORTS:
        escaped = "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;b&gt;"
        assert any(f"message: {escaped}" in text for text in seen)
        assert any(f"flavour: {escaped}" in text for text in seen)
        assert escaped in figures["curves"]["layout"]["yaxis"]["title"]["text"]


@pytest.mark.parametrize("case", COMPARED)
def test_a_comparison_is_known_by_its_first_lines_and_has_every_sentence_and_run(case: str) -> None:
    assert '<meta name="generator" content="bcrit compare">' in text_of(case)[:500]
    answer, words = answer_of(case), "\n".join(page_at(case).lines)
    told = (*answer.sentences, *answer.notes, *answer.facts["assumed"])
    named = [one[name] for one in answer.facts["runs"] for name in ("label", "location")]
    assert [said for said in (*told, *named) if said not in words] == []


@pytest.mark.parametrize("case", HOSTILE)
def test_the_json_of_the_figures_cannot_end_its_script(case: str) -> None:
    text = text_of(case)
    start = text.index('id="figures">')
    assert "<" not in text[start + len('id="figures">') : text.index("</script>", start)]


def test_the_same_run_has_the_same_page() -> None:
    assert text_of("everything") == build_report(given("everything"))
    assert text_of("compare two runs") == page_of(answer_of("compare two runs"), "bcrit compare")


def test_a_run_without_a_search_shows_none() -> None:
    usual = runs.usual()
    repeats = usual.trials[usual.trials["stage"] == "confirm"]
    page = build_report(usual.but(trials=repeats))
    assert 'id="studies-search"' in build_report(usual) and 'id="studies-search"' not in page
    assert "How the search trials ended" not in page


def test_limits_that_cannot_be_kept_name_no_hyperparameters() -> None:
    analysis = runs.usual()
    recommendation = runs.recommended(analysis, max_steps=1)
    assert answer(analysis.but(recommendation=recommendation)) == recommendation.sentences


def test_what_a_sentence_has_between_backticks_is_code_and_markup_stays_text() -> None:
    assert _code("`bcrit resume <i>` goes on; a ` alone") == "<code>bcrit resume &lt;i&gt;</code> goes on; a ` alone"


def test_every_caveat_is_said_once() -> None:
    analysis = runs.bent()
    found = caveats(analysis.but(recommendation=runs.recommended(analysis)))
    assert len(found) == len(set(found))
    assert analysis.fit is not None
    assert set(analysis.fit.notes) <= set(found)


RUNS = [{"label": label, "target": None, "location": label} for label in ("<b>one</b>", "two")]


def test_a_missing_word_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="generator"):
        render("comparison.html", title="x", runs=RUNS)


# --- the first screen ---


def advised(**limits: Any) -> Run:
    usual = runs.usual()
    return usual.but(recommendation=runs.recommended(usual, **limits))


def test_a_training_is_paid_in_steps_examples_time_and_money() -> None:
    priced = {name: (value, told) for name, value, told in decision(advised(price_per_device_hour=2.0)).taken}
    assert list(priced) == ["steps", "examples", "time", "cost"]
    assert priced["steps"][0] == "41" and priced["cost"][1].startswith("95 %: ")
    free = {name: (value, told) for name, value, told in decision(advised()).taken}
    assert free["cost"] == (free["time"][0], "of device time; no price given")


def test_the_settings_to_copy_are_the_same_in_every_language() -> None:
    copies = decision(advised()).copies
    values = yaml.safe_load(copies["YAML"])
    assert values == ast.literal_eval(copies["Python"]) and list(values) == ["batch_size", "lr", "momentum"]
    flags = shlex.split(copies["flags"])
    assert flags[::2] == ["--batch-size", "--lr", "--momentum"]
    assert [float(value) for value in flags[1::2]] == list(values.values())


def test_the_zones_meet_where_the_regimes_do_and_the_figure_given_stays_as_it_is() -> None:
    run = advised()
    assert run.fit is not None
    ends = run.fit.regimes()
    steps: Any = next(part for part in run.ask("steps").parts if part.kind == "plot")
    before = deepcopy(steps.figure)
    drawn = zoned(steps.figure, run)
    areas = drawn["layout"]["shapes"][-3:]
    assert [areas[0]["x1"], areas[1]["x1"]] == [ends.perfect_scaling_ends.value, ends.plateau_begins.value]
    assert [areas[1]["x0"], areas[2]["x0"]] == [areas[0]["x1"], areas[1]["x1"]]
    assert drawn["data"][-1]["x"] == [64] and drawn["data"][-1]["name"] == "advised: batch size 64"
    assert steps.figure == before


@pytest.mark.parametrize("given", [lambda: runs.partly(()), lambda: advised(max_steps=1)], ids=["no fit", "infeasible"])
def test_where_nothing_is_advised_nothing_is_taken_or_copied(given: Any) -> None:
    found = decision(given())
    assert found.taken == () and found.sure == () and found.copies == Decision().copies


def test_prices_that_are_kept_stand_on_the_page_until_they_are_forgotten(tmp_path: Path) -> None:
    run = shutil.copytree(ROOT / "tests/golden/runs/digits", tmp_path / "digits")
    assert bcrit("recommend", run, "--price", 7200, "--devices", 2, "--write").returncode == 0
    assert "no price given" not in (run / "report.html").read_text()
    assert "on 2 devices" in bcrit("recommend", run).stdout and "cost (currency)" in bcrit("recommend", run).stdout
    assert bcrit("recommend", run, "--write").returncode == 0
    assert "no price given" in (run / "report.html").read_text()
    assert "device-milliseconds" in bcrit("recommend", run).stdout


def test_the_price_that_a_run_was_begun_with_stands_on_its_page_before_it_is_complete(tmp_path: Path) -> None:
    run = shutil.copytree(ROOT / "tests/golden/runs/digits", tmp_path / "digits")
    assert "no price given" in build_report(Run(RunFolder.at(run)))
    told = Driver("vm", 1, since=0.0, told=0.0, workers=2, price=2.5)
    RunFolder.at(run).write_result(STATUS, told)
    assert "no price given" not in build_report(Run(RunFolder.at(run)))
    assert bcrit("recommend", run, "--write").returncode == 0  # forgets prices
    assert "no price given" in (run / "report.html").read_text()


def test_a_command_is_called_as_its_experiment() -> None:
    usual = runs.usual()
    assert f"should {usual.experiment.workload.name} be trained at?" in build_report(usual)
    command = usual.experiment.workload.model_copy(update={"name": "command"})
    faces = usual.experiment.model_copy(update={"name": "faces", "workload": command})
    assert "should faces be trained at?" in build_report(usual.but(experiment=faces))


def test_prices_are_not_kept_where_they_are_wrong_or_there_is_no_run(tmp_path: Path) -> None:
    run = shutil.copytree(ROOT / "tests/golden/runs/digits", tmp_path / "digits")
    assert "price_per_device_hour" in refused(bcrit("recommend", run, "--price-per-device-hour", -1, "--write"))
    assert "leave one out" in refused(bcrit("recommend", run, "--price-per-device-hour", 2, "--price", 2))
    assert not (run / "report.html").exists() and not (run / "analysis").exists()
    (tmp_path / "steps.csv").write_text("batch_size,steps\n8,900\n32,300\n128,150\n")
    assert "--write keeps prices" in refused(bcrit("recommend", tmp_path / "steps.csv", "--write"))

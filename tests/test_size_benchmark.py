"""The benchmark of size on a folder small enough for a test: what it makes is read right."""

from pathlib import Path

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.analysis.run import Run
from benchmarks import size


def test_a_small_folder_is_made_and_its_planted_crossings_are_found(tmp_path: Path) -> None:
    folder = RunFolder.at(tmp_path / "run")
    n_trials, n_rows = size.make(folder, share=0.001)
    assert n_trials == 168 and n_rows > 100 * n_trials
    found = size.steps_to_targets(str(folder), 20)
    assert set(found["steps"]) == set(size.BATCH_SIZES)
    analysis = Run(folder)
    assert analysis.studies["steps"].dropna().to_dict() == {
        place: found["steps"][b] for place, b in enumerate(size.BATCH_SIZES) if found["steps"][b] == found["steps"][b]
    }
    assert analysis.targets is not None and analysis.budgets is not None
    assert size.BATCH_SIZES == tuple(sorted(set(analysis.targets.cells["batch_size"])))


def test_the_same_seed_makes_the_same_folder(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        size.make(RunFolder.at(tmp_path / name), share=0.0003, seed=1)
        made.append([path.read_bytes() for path in sorted((tmp_path / name).rglob("*.parquet"))])
    assert made[0] == made[1]

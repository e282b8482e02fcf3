"""A reused actor gives the same curve as a fresh process, bit for bit: real Ray, real training."""

from pathlib import Path

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.load import parse_experiment
from bcrit.search_spaces.tables import MEASUREMENTS
from bcrit.tuner.ledger import Ledger
from bcrit.tuner.session import run
from bcrit.tuner.workloads.digits import DigitsMLP
from tests.simulate import simulate

EXPERIMENT = parse_experiment(
    {
        "workload": "digits_mlp",
        "batch_sizes": [16, 128],
        "target": "val_loss < 0.2",
        "space": {
            "lr": "log from 0.03 to 1",
            "momentum": "reverse_log from 0 to 0.9",
            "schedule": "choice of constant, cosine",
        },
        "budget": {"steps": 60},
        "search": {"trials": 5, "start": 3},
        "confirm": {"points": 1, "seeds": 2},
    },
    "test",
)


def test_every_trial_of_a_run_with_reused_actors_is_what_one_process_computes_alone(tmp_path: Path) -> None:
    folder = RunFolder.at(tmp_path / "run")
    result = run(folder, EXPERIMENT, new=True, address=None, workers=2, watch=lambda scheduler: None)
    assert result.complete and result.workers == 2
    alone = simulate(EXPERIMENT, DigitsMLP())
    together = Ledger.open(folder, EXPERIMENT).records
    curves = {r.trial_id: [tuple(p) for p in r.curve] for records in together.values() for r in records}
    expected = {r.trial_id: list(r.curve) for records in alone.values() for r in records}
    assert curves == expected
    assert len({r.trial_id for records in together.values() for r in records}) == result.n_trials >= 14
    assert folder.read(MEASUREMENTS).num_rows == sum(map(len, expected.values()))

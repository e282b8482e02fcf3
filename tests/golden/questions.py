"""Every question whose answer is held: which command, on which stored run or input."""

import shlex

from tests.golden.asked import HERE, Question

COMMANDS = {
    "digits": {
        "analyze": "analyze digits",
        "analyze_target": "analyze digits --target 'val_loss < 0.3'",
        "recommend": "recommend digits",
        "recommend_steps": "recommend digits --max-steps 40 --price-per-device-hour 2",
        "recommend_hours": "recommend digits --max-hours 0.5 --devices 8 --step-time inputs/seconds.csv",
        "recommend_devices": "recommend digits --step-time inputs/times.csv --price h100=3 --price a100=1"
        " --max-hours 12",
        "recommend_infeasible": "recommend digits --max-steps 10 --max-examples 500",
        "targets": "targets digits",
        "targets_given": "targets digits --target 'val_loss < 0.3' --target 0.2",
        "budgets": "budgets digits",
        "budgets_given": "budgets digits --steps 20 --examples 1000 --hours 0.00001",
        "optimum": "optimum digits --at 100 --at 4096",
        "sensitivity": "sensitivity digits",
        "sensitivity_within": "sensitivity digits --within 0.5",
        "report_page": "report digits",
        "repair": "repair digits",
        "export_csv": "export csv digits out",
        "export_parquet": "export parquet digits out",
        "export_batch_science": "export batch_science digits out",
    },
    "full": {
        "analyze": "analyze full",
        "recommend": "recommend full --max-cost 0.001",
        "targets": "targets full",
        "noise_scale": "noise-scale full",
        "weight_distance": "weight-distance full",
        "budgets": "budgets full",
        "optimum": "optimum full --at 50",
        "sensitivity": "sensitivity full",
        "finals": "finals full",
        "finals_metric": "finals full --metric val_accuracy",
        "landscape": "landscape full --seeds 1 --eps 0.001 --subspace 4 --examples 256 --iterations 2 --warm-starts 2",
        "adaptive": "adaptive full --seeds 3 --ramp 0:16,20:64",
        "report_page": "report full",
    },
    "unfinished": {
        "status": "status unfinished",
        "analyze": "analyze unfinished",
        "recommend": "recommend unfinished",
        "optimum": "optimum unfinished",
        "report_page": "report unfinished",
    },
    "never": {
        "analyze": "analyze never",
        "analyze_target": "analyze never --target 'val_loss < 1'",
        "recommend": "recommend never",
        "targets": "targets never",
        "budgets": "budgets never",
        "optimum": "optimum never",
        "sensitivity": "sensitivity never",
        "finals": "finals never",
        "report_page": "report never",
    },
    "imported_table": {
        "analyze": "analyze imported_table",
        "recommend": "recommend imported_table --max-hours 0.0001",
        "targets": "targets imported_table --target 'val_error < 0.2'",
        "budgets": "budgets imported_table",
        "report_page": "report imported_table",
    },
    "imported_batch_science": {
        "analyze": "analyze imported_batch_science",
        "optimum": "optimum imported_batch_science",
        "report_page": "report imported_batch_science",
        "export_batch_science": "export batch_science imported_batch_science out",
    },
    "imported_mlperf": {
        "analyze": "analyze imported_mlperf",
        "recommend": "recommend imported_mlperf",
        "report_page": "report imported_mlperf",
    },
    "imported_tracker": {
        "analyze": "analyze imported_tracker",
        "optimum": "optimum imported_tracker --at 64",
        "report_page": "report imported_tracker",
    },
    "tables": {
        "fit": "fit inputs/steps.csv",
        "fit_censored": "fit inputs/censored.csv",
        "fit_seeds": "fit inputs/seeds.csv --level 0.9 --unit tokens",
        "fit_early": "fit inputs/early.csv",
        "fit_more": "fit inputs/steps.csv --predict 2048 --predict 100 --linear-from 16 --efficiency 0.9"
        " --step-time inputs/seconds.csv",
        "recommend": "recommend inputs/steps.csv --max-examples 5000",
        "recommend_unit": "recommend inputs/seeds.csv --unit tokens --level 0.5 --max-steps 300",
        "recommend_early": "recommend inputs/early.csv",
        "recommend_devices": "recommend inputs/steps.csv --step-time inputs/times.csv --price h100=3 --price a100=1",
        "recommend_infeasible": "recommend inputs/steps.csv --step-time inputs/times.csv --max-hours 0.00001",
    },
    "several": {
        "compare_page": "compare digits unfinished --out page.html",
        "compare_tables_page": "compare inputs/slow.csv inputs/quick.csv --out page.html",
        "compare_other_targets": "compare digits full",
        "compare_across_targets": "compare digits full --across-targets",
        "compare_three": "compare unfinished imported_table inputs/steps.csv never",
        "finals": "finals full never",
    },
    "imports": {
        "table": "import table --trials inputs/trials.csv --measurements inputs/measurements.csv"
        " --columns inputs/columns.yaml --target 'val_loss < 0.3' --out run",
        "batch_science": "import batch_science inputs/tree --out run",
        "mlperf": "import mlperf inputs/rcps_resnet.json --out run",
        "optuna": "import optuna inputs/optuna.log --target 'val_loss < 0.1' --out run",
        "ray": "import ray inputs/ray_results --target 'val_loss < 0.1' --out run",
        "wandb": "import wandb inputs/wandb --target 'val_loss < 0.1' --out run",
        "csv": "import csv inputs/exported_csv --out run",
        "parquet": "import parquet inputs/exported_parquet --out run",
    },
    "before": {
        "plan": "tune recipe/digits.yaml --plan",
        "workloads": "workloads",
        "pilot": "pilot recipe/pilot.yaml --seeds 3 --workers 2 --out piloted",
    },
}
ONE_FACE = {
    "full/landscape": "json",  # takes seconds; its words are in the report
    "full/recommend": "txt",
    "unfinished/recommend": "txt",
    "full/analyze": "json",
    "full/optimum": "json",
    "digits/repair": "json",
    "digits/recommend_devices": "json",
    "digits/recommend_infeasible": "txt",
    "full/sensitivity": "txt",
    "digits/sensitivity": "txt",  # its JSON, and that of the next two, is in that of analyze
    "unfinished/optimum": "txt",
    "imported_batch_science/optimum": "txt",
    "digits/analyze_target": "txt",
    "digits/recommend_steps": "json",
    "digits/recommend_hours": "json",
    "digits/sensitivity_within": "txt",
    "several/compare_other_targets": "txt",
    "several/compare_across_targets": "json",
    "several/compare_three": "txt",
}
"""Questions of which only the JSON or only the text is held: to save time, where another one has the rest."""

TRAINED = {"full/landscape": 1e-3}
"""Relative differences allowed where something is measured by torch; 1e-6 for all else."""

QUESTIONS = [
    Question(
        name,
        tuple(shlex.split(words)),
        faces=(ONE_FACE[name],) if name in ONE_FACE else ("json", "txt"),
        within=TRAINED.get(name, 1e-6),
    )
    for folder, named in COMMANDS.items()
    for name, words in ((f"{folder}/{short}", words) for short, words in named.items())
]

BAD_EXPERIMENTS = sorted(path.name for path in (HERE / "inputs/bad").glob("*.yaml"))
REFUSED = [
    *(f"tune inputs/bad/{name} --plan" for name in BAD_EXPERIMENTS),
    *(f"fit inputs/bad/{name}.csv" for name in ("empty", "header", "columns", "words", "one", "negative", "missing")),
    "tune missing.yaml",
    "tune .",
    "tune recipe/digits.yaml --out digits",
    "tune recipe/digits.yaml --out digits --workers 0",
    "pilot recipe/pilot.yaml --batch-size 9999",
    "pilot recipe/pilot.yaml --write recipe/digits.yaml",
    "pilot recipe/pilot.yaml --write no/such/folder.yaml",
    "pilot recipe/pilot.yaml --write /proc/new.yaml",
    "pilot inputs/bad/imported.yaml",
    "resume missing",
    "resume digits --retry 9",
    "resume digits --code missing",
    "repair missing",
    "analyze missing",
    "analyze never --target 'loss < 1'",
    "analyze never --target 'val_loss 1'",
    "analyze nonsense://x",
    "report inputs",
    "nonsense",
    "fit",
    "fit recipe/digits.yaml",
    "fit inputs/steps.csv --level 2",
    "fit inputs/steps.csv --predict -3",
    "fit inputs/steps.csv --efficiency 80",
    "recommend missing",
    "recommend inputs/steps.csv --max-hours 3",
    "recommend inputs/steps.csv --max-steps -1",
    "recommend inputs/steps.csv --price h100=1",
    "recommend inputs/steps.csv --step-time inputs/times.csv --devices 2",
    "recommend inputs/steps.csv --step-time inputs/times.csv --price b200=1",
    "recommend never --level 0.9",
    "compare never",
    "compare never missing",
    "finals never",
    "finals never --metric perplexity",
    "targets never --target 'val_loss > 1'",
    "targets never --target perplexity",
    "budgets never --steps -1",
    "noise-scale never",
    "weight-distance digits",
    "optimum never --at -4",
    "sensitivity never --within 20",
    "landscape never",
    "landscape never --eps nan",
    "landscape never --seeds 0",
    "landscape never --warm-starts 1",
    "adaptive never",
    "adaptive never --ramp 8-32",
    "adaptive never --ramp 5:8",
    "adaptive never --exchange-rate -1",
    "adaptive never --seeds 0",
    "import table --trials inputs/trials.csv --target 'loss < 1'",
    "import table --trials missing.csv --target 'loss < 1'",
    "import table --trials inputs/trials.csv",
    "import batch_science missing",
    "import mlperf inputs/steps.csv --unit parsecs",
    "import optuna none.db --target 'a < 1'",
    "import ray inputs --target 'a < 1'",
    "import wandb inputs/steps.csv --target 'a < 1'",
    "import csv inputs",
    "export csv missing out",
    "export nonsense never out",
]
"""What is refused, with a message each; all stand in one golden."""

WITHOUT_ANSWER = {
    "resume": "goes on with a run; what it refuses is held",
    "watch": "serves a page until it is stopped",
    "demo": "trains; the README's numbers are those that it gave",
    "init": "writes a file; what it writes is checked by its own tests",
    "check": "times this machine",
    "doctor": "speaks of this machine",
}
"""Commands of which no answer is held, and why."""

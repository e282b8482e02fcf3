#!/bin/sh
# Makes the runs in tests/golden/runs again, from the repository's root: other times, and other last digits where torch
# differs. Afterwards: python -m tests.golden.renew
set -e
work=$(mktemp -d) here=$PWD golden=$PWD/tests/golden
for name in digits full never; do
  python -m bcrit tune "$golden/recipe/$name.yaml" --workers 2 --out "$work/$name" || test $name = never
done
python -m bcrit landscape "$work/full" --seeds 1 --eps 0.001 --subspace 4 --examples 256 --iterations 2 --warm-starts 2
python -m bcrit adaptive "$work/full" --seeds 3 --ramp 0:16,20:64
python -m bcrit pilot "$golden/recipe/pilot.yaml" --seeds 3 --out "$work/piloted"
python -m tests.golden.recipe.killed "$golden/recipe/unfinished.yaml" "$work/unfinished"
python -m bcrit repair "$work/unfinished" # what the killed run had left on its way
cd "$golden"
import() { PYTHONPATH=$here python -m bcrit import "$@"; }
import table --trials inputs/trials.csv --measurements inputs/measurements.csv --target 'val_loss < 0.3' \
  --columns inputs/columns.yaml --out "$work/imported_table"
import batch_science inputs/tree --out "$work/imported_batch_science"
import mlperf inputs/rcps_resnet.json --out "$work/imported_mlperf"
import optuna inputs/optuna.log --target 'val_loss < 0.1' --out "$work/imported_tracker"
cd "$here"
python -m tests.golden.keep "$work"/*
cd "$golden"
for kind in csv parquet; do
  rm -rf "inputs/exported_$kind"
  PYTHONPATH=$here python -m bcrit export $kind runs/imported_tracker "inputs/exported_$kind"
done

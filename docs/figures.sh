#!/usr/bin/env bash
# Makes the pictures of the pages from runs: docs/figures.sh RUN, where RUN is the demo's (`make demo`: runs/digits).
# It needs a browser, as examples/papers/pictures.py does.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
cp -r "$1" "$work/digits"
cp -r tests/golden/runs/full "$work/full"
python -m bcrit report "$work/digits"
python -m bcrit report "$work/full"
for page in docs/questions/compare.md; do  # the tables that it shows
  awk -v to="$work/" '/^<!-- file: .*csv -->/ {name = to $3; next} /^```csv/ {on = 1; next} /^```/ {on = 0} on {print > name}' "$page"
done
python -m bcrit compare "$work/sgd.csv" "$work/momentum.csv" --out "$work/compare.html"
picture() { python examples/papers/pictures.py "$work/$1" "$2" "docs/figures/$3.png"; }
mkdir -p docs/figures
picture digits/report.html steps fit
picture digits/report.html frontier recommend
picture digits/report.html targets-b-crit targets
picture digits/report.html budgets-examples budgets
picture digits/report.html optimum-0 optimum
picture digits/report.html sensitivity-share sensitivity
picture full/report.html noise_scale-value noise_scale
picture full/report.html landscape-line landscape
picture full/report.html adaptive-frontier adaptive
picture compare.html curves-0 compare
python examples/papers/pictures.py "$work/digits/report.html" screen docs/demo.png --width 1100
rm -r "$work"

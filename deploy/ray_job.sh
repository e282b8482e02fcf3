#!/bin/sh
# One run as a job of a Ray cluster that is there already, sent from your own machine:
#
#   pip install 'bcrit[cluster]'                            here, with the cluster's version of Ray
#   export RAY_ADDRESS=http://HEAD:8265                     its dashboard, or a tunnel to it
#   export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=...           where it demands one
#   sh deploy/ray_job.sh my.yaml s3://my-bucket/my-run      in the folder with my.yaml and code of yours; more options
#                                                           follow, such as --workers 16 where the cluster grows
#   ray job logs -f my-run...; ray job stop my-run...       the name that it prints; the same line again goes on
#
# The folder goes along. Where the cluster's image has no bcrit, each of its machines installs the version that you have,
# once. tests/test_deploy.py checks the options against the installed Ray.
set -eu
experiment=$1 run=$2
shift 2
installed=$(python3 -c 'from importlib.metadata import version; print("bcrit[cluster]==" + version("bcrit"))')
exec ray job submit --no-wait --submission-id "$(basename "$run")-$(date -u +%Y%m%d-%H%M%S)" --working-dir . \
  --runtime-env-json "{\"pip\": [\"$installed\"]}" \
  -- bcrit tune "$experiment" --out "$run" --resume --address auto "$@"

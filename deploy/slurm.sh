#!/bin/bash
# One run as a job of Slurm: Ray's head and the command on the first node, workers on all. A job that is preempted, or
# reaches its time limit, is queued again and goes on with its run.
#
#   sbatch deploy/slurm.sh my.yaml /shared/runs/my-run      in the folder with my.yaml and code of yours
#   tail -f slurm-JOBID.out; scontrol requeue JOBID; scancel JOBID
#
# The only numbers are Slurm's own, below: as many trials run at once as there is room for. The run folder lies where
# the first node can write, on a shared disk or an object store; `bcrit` and `ray` are on the PATH of every node.
# tests/test_deploy.py runs this script with Ray on one machine, where a few lines stand for Slurm; Slurm itself was
# never at hand.
#SBATCH --job-name=bcrit
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
##SBATCH --gpus-per-node=1
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
experiment=$1 run=$2

# Whoever reaches a port of a Ray without a token may run anything there. srun hands the environment to all nodes.
RAY_AUTH_TOKEN=$(python3 -c 'import secrets; print(secrets.token_hex(32))')
address=$(hostname):$((20000 + SLURM_JOB_ID % 20000))
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN address

# The first node keeps one core for the command itself. Since Slurm 22.05 srun does not take over the job's CPUs of a
# task: without a word each node would have one core. Ray gives a start half a minute, which may be too short on a busy
# node: it is tried again.
# shellcheck disable=SC2016  # each node fills in its own number
srun --overlap --ntasks="$SLURM_NNODES" --cpus-per-task="$SLURM_CPUS_PER_TASK" bash -c '
  part=(--num-cpus="$SLURM_CPUS_PER_TASK" --address="$address")
  if ((SLURM_NODEID == 0)); then
    part=(--num-cpus=$((SLURM_CPUS_PER_TASK - 1)) --head --port="${address#*:}")
  fi
  for _ in 1 2 3; do
    until ((SLURM_NODEID == 0)) || ray health-check --address "$address" 2> /dev/null; do sleep 2; done
    ray start --block "${part[@]}" || sleep 2
  done
' &
ray=$!
until python3 -c 'import os, ray; ray.init(os.environ["address"], logging_level=50)' 2> /dev/null; do
  kill -0 "$ray" # it has given up, and so does the job
  sleep 2
done

bcrit tune "$experiment" --out "$run" --resume --address "$address" &
command=$!
ended=running
trap 'ended=limit; kill -TERM "$command"' USR1 # the time limit comes
trap 'ended=preempted; kill -TERM "$command"' TERM # Slurm queues the job again by itself, or was told to cancel it
code=0
wait "$command" || code=$?
if [[ $ended != running ]]; then wait "$command" || true; fi # it was told to end, and brings what has finished

# With 3 and 4, or where Ray is gone, nothing is wrong with the experiment; but a job that fails each time ends some time.
failed() { ((code == 3 || code == 4)) || { ((code > 1)) && ! kill -0 "$ray" 2> /dev/null; }; }
if [[ $ended == limit ]] || { failed && ((${SLURM_RESTART_COUNT:-0} < 20)); }; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"

#!/usr/bin/env bash
# Train on SLURM, on one or several nodes, and continue automatically after a preemption or the end of the time limit.
#
#   sbatch scripts/slurm_train.sh --config configs/cityscapes_official.yaml --data.root path/to/cityscapes
#   sbatch --nodes 4 scripts/slurm_train.sh ...          (the options of sbatch win over those below)
#
# SLURM sends SIGTERM to this script before it stops the job (--signal). The run then saves a checkpoint at its next step
# and ends, and the job is queued again. Every start resumes the newest run with this configuration, or starts a new run if
# there is none (--ckpt_path auto).

#SBATCH --job-name=efficientps
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x_%j.log

set -uo pipefail
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}"

nodes="${SLURM_JOB_NUM_NODES:-1}"
gpus="${SLURM_GPUS_ON_NODE:-${GPUS_PER_NODE:-1}}"
master="$(scontrol show hostnames "${SLURM_JOB_NODELIST:-localhost}" 2>/dev/null | head -n 1)"
master="${master:-localhost}"
port=$((20000 + ${SLURM_JOB_ID:-0} % 20000))
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

# torchrun starts one process for each GPU and passes SIGTERM on to them.
srun --kill-on-bad-exit=1 torchrun \
    --nnodes "$nodes" --nproc_per_node "$gpus" \
    --rdzv_backend c10d --rdzv_id "${SLURM_JOB_ID:-0}" --rdzv_endpoint "$master:$port" \
    train_net.py fit --trainer.num_nodes "$nodes" --trainer.devices "$gpus" --ckpt_path auto "$@" &
run=$!

preempted=0
trap 'preempted=1; kill -TERM "$run" 2>/dev/null' TERM
wait "$run"
code=$?
while kill -0 "$run" 2>/dev/null; do # a trapped signal ends "wait" before the run has saved
    wait "$run"
    code=$?
done

# torchrun has an exit code of its own when its processes were told to end.
if [ "$code" -eq 75 ] || [ "$preempted" -eq 1 ]; then
    echo "Preempted: job ${SLURM_JOB_ID:-} queues again."
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$code"

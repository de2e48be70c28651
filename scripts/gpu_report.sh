#!/usr/bin/env bash
# Tests and measures the project on a CUDA device, in two parts.
#   bash scripts/gpu_report.sh A [FOLDER]   correctness: CPU against CUDA, tests, a short training in 16-mixed
#   bash scripts/gpu_report.sh B [FOLDER]   quality after training, memory, speed
#   DEVICE=cpu bash scripts/gpu_report.sh A [FOLDER]     the steps at tiny sizes, without a CUDA device
# Each part takes at most ${SECONDS_IN_ALL:-330} seconds. It needs no network and installs nothing. FOLDER (default:
# gpu_report) holds, from the first step on, summary_A.txt with a line for each step, steps_A.jsonl with all figures and
# log_A.txt with the output. After the last step cuda_CARD.json holds the figures of both parts. The exit code is 0 if at
# least one step has succeeded.
set -uo pipefail
cd "$(dirname "$0")/.."
part="${1:-A}"
folder="${2:-gpu_report}"
device="${DEVICE:-cuda}"
case "$part" in A | B) ;; *) echo "error: the part is '$part'; it must be A or B." >&2; exit 1 ;; esac
mkdir -p "$folder" || exit 1
folder="$(cd "$folder" && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
rm -f "$folder"/{summary,steps,log}_"$part".*
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 PYTHONWARNINGS=ignore
[ "$device" = cpu ] && threads=1 || threads=4 # few, because several steps run in parallel
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$threads}"
python="${PYTHON:-python3}"
end=$((SECONDS + ${SECONDS_IN_ALL:-330} - 12)) # the last file takes some seconds

record() { "$python" -m benchmarks.gpu_report add "$folder" "$part" "$@" 2>&1; }

# step NAME LIMIT COMMAND...: run a command within its limit and the remaining time, and record its results.
step() {
  local name="$1" limit="$2" left=$((end - SECONDS)) begin=$SECONDS code
  shift 2
  if [ "$left" -lt 8 ]; then
    record "$name" "$work/$name.log" "$folder/$name.json" -- -1 0
    return 1
  fi
  timeout --kill-after=5 "$((limit < left ? limit : left))" "$@" >"$work/$name.log" 2>&1
  code=$?
  [ "$code" -eq 0 ] && touch "$work/something_ran"
  record "$name" "$work/$name.log" "$folder/$name.json" "$code" "$((SECONDS - begin))" | cut -c1-600
  return "$code"
}
bench() { # bench NAME LIMIT SUBCOMMAND OPTIONS...
  local name="$1" limit="$2"
  shift 2
  step "$name" "$limit" "$python" scripts/benchmark.py "$@" --device "$device" --threads "$OMP_NUM_THREADS" --json "$folder/$name.json"
}
fit() { # fit LIMIT NAME WORKERS
  local tiny=()
  [ "$device" = cpu ] && tiny=(--steps 2)
  bench "$2" "$1" fit "$2" --scenes "$work/scenes" --folder "$work/runs" --workers "$3" "${tiny[@]}"
}
tests() { # tests NAME LIMIT PYTEST_OPTIONS...: ignores the project's pytest options, which need optional plugins
  local name="$1" limit="$2"
  shift 2
  step "$name" "$limit" "$python" -m pytest -q -rfE -o addopts= --import-mode=importlib -p no:cacheprovider "$@"
}

if [ "$device" = cpu ]; then
  train=12 val=4 extent=(128 256) workers=0
else
  train=240 val=60 extent=(256 512) workers=8
fi

(
  step scenes 120 "$python" datasets/prepare_synthetic.py --root "$work/scenes" --num-train $train --num-val $val --size "${extent[@]}" --workers "$([ "$device" = cpu ] && echo 2 || echo 12)"
  touch "$work/scenes_are_there"
) &

step environment 60 "$python" - "$device" "$part" <<'PYTHON'
import importlib, pkgutil, sys, time
import torch
print("python", sys.version.split()[0], "torch", torch.__version__, "cuda", torch.version.cuda, "cudnn", torch.backends.cudnn.version())
if sys.argv[1] == "cuda":
    import subprocess
    query = "--query-gpu=name,driver_version,memory.total,memory.used,clocks.max.sm,power.limit"
    print(subprocess.run(["nvidia-smi", query, "--format=csv"], capture_output=True, text=True).stdout)
    print(torch.cuda.get_device_name(), torch.cuda.get_device_capability(), "free and total bytes", torch.cuda.mem_get_info())
from importlib.metadata import distributions
print(sorted(f"{d.name} {d.version}" for d in distributions() if d.name))
import efficientps
failed = []
for module in pkgutil.walk_packages(efficientps.__path__, "efficientps.") if sys.argv[2] == "A" else ():
    begin = time.perf_counter()
    try:
        importlib.import_module(module.name)
    except BaseException as error:
        failed.append(f"{module.name}: {type(error).__name__}: {error}")
print("modules that cannot be imported:", failed or "none")
assert sys.argv[1] == "cpu" or torch.cuda.is_available(), "there is no CUDA device"
PYTHON

if [ "$part" = A ]; then
  small=()
  [ "$device" = cpu ] && small=(--size 64 128 --half bf16 --networks "Mask R-CNN, in_place" "SOLOv2, in_place" "DETR joint")
  parity() { bench parity 240 parity "${small[@]}"; }
  training() {
    until [ -e "$work/scenes_are_there" ]; do sleep 0.5; done
    fit 200 demo_fp16_short $workers
  }
  tested() {
    if [ "$device" = cpu ]; then
      tests gpu_tests 60 -m "not gpu" tests/benchmarks/test_memory.py
      tests triton 60 tests/layers/test_norm_act_triton.py -k "without_gradient or half_precision"
    else
      tests triton 120 tests/layers/test_norm_act_triton.py
      tests gpu_tests 150 -m gpu tests --ignore tests/benchmarks/test_largest_batch.py --continue-on-collection-errors
    fi
  }
  if [ "$device" = cpu ]; then
    parity; training; tested
  else # these are not timed, so they share the GPU
    parity & training & tested &
  fi
  wait
else
  if [ "$device" = cpu ]; then
    wait
    bench predict 60 predict --presets demo --size 64 128 --instances 3 --rounds 1 --precision fp32
    bench train 60 train --presets demo --size 64 128 --rounds 1 --no-peers --memory in-place eager
    bench memory 60 memory --preset demo --size 64 128 --batches 1 --precision fp32
    for name in demo_bf16 solov2 detr resume; do fit 140 $name 0; done
  else
    bench predict 45 predict --rounds 20 # other cores draw the scenes at this time
    until [ -e "$work/scenes_are_there" ]; do sleep 0.5; done
    # Trainings and memory share the GPU; the timed steps follow and have it alone.
    (fit 190 demo_bf16 4) & (fit 190 demo_fp16 4) &
    (fit 90 resume 2; fit 60 solov2 4; fit 60 detr 4) &
    (bench memory 120 memory --preset cityscapes_paper) &
    wait
    bench train 70 train --presets cityscapes_512x1024_adam --size 512 1024 --batch-size 4 --precision bf16 --rounds 5 \
      --memory in-place eager triton channels-first
    bench profile 30 profile --size 512 1024 --batch-size 4 --precision bf16 --top 24
    bench train_1 60 train --presets cityscapes_512x1024_adam --size 512 1024 --precision bf16 --rounds 10
    bench model 60 model --size 1024 2048 --precision bf16 --rounds 10 --presets cityscapes_paper --no-peer-activations --without DETR-R50-panoptic
    bench fusion 30 fusion
    bench pq 30 pq
    fit 170 demo_bf16_triton 4
    bench compiled 100 predict --presets cityscapes_paper --rounds 20 --compiled
  fi
fi
"$python" -m benchmarks.gpu_report finish "$folder"
[ -e "$work/something_ran" ]

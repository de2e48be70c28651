#!/usr/bin/env bash
# One report of a machine with a CUDA device: the tests that need one, then the benchmarks in bf16 and fp32.
#   bash scripts/gpu_report.sh [FOLDER]          writes JSON and a log there (default: gpu_report), in under ten minutes
# It needs no network and installs nothing. What cannot run is named, and the rest runs.
set -uo pipefail
cd "$(dirname "$0")/.."
folder="${1:-gpu_report}"
mkdir -p "$folder" || exit 1
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
python="${PYTHON:-python3}"
end=$((SECONDS + ${SECONDS_IN_ALL:-570}))

if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
  echo "error: there is no PyTorch with a CUDA device here." >&2
  exit 1
fi

# step NAME LIMIT COMMAND...: run a command within its own limit and what is left of the time; say what did not run.
step() {
  local name="$1" limit="$2" left=$((end - SECONDS)) code
  shift 2
  if [ "$left" -lt 15 ]; then
    echo "skipped: $name (no time left)" | tee -a "$folder/skipped.txt"
    return
  fi
  echo "== $name"
  timeout "$((limit < left ? limit : left))" "$@" 2>&1 | tee "$folder/$name.log"
  code="${PIPESTATUS[0]}"
  [ "$code" -eq 0 ] || echo "skipped: $name (exit code $code)" | tee -a "$folder/skipped.txt"
}

: >"$folder/skipped.txt"
bench() { # bench NAME LIMIT SUBCOMMAND OPTIONS...
  local name="$1" limit="$2"
  shift 2
  step "$name" "$limit" "$python" scripts/benchmark.py "$@" --device cuda --json "$folder/$name.json"
}

# Without the project's own options, which need plugins that may be missing here.
step tests 120 "$python" -m pytest -q -o addopts= --import-mode=importlib -m gpu -p no:cacheprovider tests
bench fusion 60 fusion
bench pq 60 pq
for precision in bf16 fp32; do
  bench "model_1024_$precision" 60 model --size 1024 2048 --precision "$precision" --rounds 20 --presets cityscapes_paper cityscapes_solov2_1024x2048
  bench "train_512_$precision" 60 train --size 512 1024 --batch-size 3 --precision "$precision" --rounds 5
  bench "train_1024_$precision" 60 train --size 1024 2048 --precision "$precision" --rounds 5
done
bench norms_512 60 train --size 512 1024 --batch-size 4 --precision bf16 --rounds 10 --no-peers --memory in-place triton eager compiled
bench batch 90 batch
bench profile 60 profile --size 1024 2048 --precision bf16
bench torch_compile 120 train --size 512 1024 --batch-size 4 --precision bf16 --rounds 10 --no-peers --memory in-place torch-compile
bench growth 60 growth --precision bf16 --size 512 1024 --plot "$folder/growth.png"
[ -s "$folder/skipped.txt" ] || echo "Everything ran."

#!/usr/bin/env bash
# Trains a panoptic network on a CPU in one command: installs the package, draws street scenes, trains configs/demo.yaml,
# prints the PQ table of the validation scenes and draws their predictions.
#   bash scripts/demo.sh                          takes some minutes on 2 cores after the installation, and prints how long
#   bash scripts/demo.sh --seed_everything 1      passes its arguments to efficientps fit
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
python -m efficientps demo "$@"

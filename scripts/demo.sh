#!/usr/bin/env bash
# From nothing to a trained panoptic network on a CPU: installs, draws street scenes, trains configs/demo.yaml on them,
# prints the PQ table of the held-out scenes and paints a grid of predictions.
#   bash scripts/demo.sh                          installs, then takes minutes on 2 cores; prints how long
#   bash scripts/demo.sh --seed_everything 1      any arguments go to train_net.py fit
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
begin=$SECONDS
python datasets/prepare_synthetic.py --root datasets/synthetic
python train_net.py fit --config configs/demo.yaml "$@"
echo "The demo took $((SECONDS - begin)) seconds."

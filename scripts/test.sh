#!/usr/bin/env bash
# Runs the tests. Makes .venv and installs the package where no environment is active.
#   bash scripts/test.sh                 the default tests, in a process for each core, four at most
#   bash scripts/test.sh -m slow         any arguments go to pytest
#   bash scripts/test.sh --lowest        a part of the tests with the lowest versions that requirements.txt allows,
#                                        in an environment of their own, .venv-lowest (about 7 GB)
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" != "--lowest" ]; then
  source scripts/environment.sh
  [ "$#" -gt 0 ] || set -- --numprocesses auto --maxprocesses 4 --dist worksteal
  exec python -m pytest "$@"
fi
shift
python=.venv-lowest/bin/python
if [ ! -f .venv-lowest/.installed ] || [ requirements.txt -nt .venv-lowest/.installed ]; then
  "${PYTHON:-python3}" -m venv --clear .venv-lowest
  "$python" scripts/lowest_requirements.py > .venv-lowest/versions.txt
  echo "Installing the lowest versions of all requirements (PyTorch is several gigabytes) ..."
  "$python" -m pip install --quiet --requirement .venv-lowest/versions.txt pytest pytest-timeout efficientnet-pytorch
  "$python" -m pip install --quiet --no-deps --editable .
  touch .venv-lowest/.installed
fi
# A run of each family (fit, validate, predict, resume), layers, metrics, checkpoints and formats.
if [ "$#" = 0 ]; then
  set -- tests/test_first_edition.py tests/test_private_parts.py tests/test_configs.py::test_runs_two_steps[demo{,_solov2}] \
    tests/test_configs.py::test_runs_two_steps[detr_panoptic_joint] tests/backbones tests/data/formats tests/layers/test_norm_act.py \
    tests/metrics tests/networks/queries tests/training/checkpoints/test_{read,resolve,write,best}.py
fi
# Another OpenCV draws other scenes and another PyTorch other random numbers than those of recorded losses.
EFFICIENTPS_LOWEST=1 exec "$python" -m pytest "$@"

#!/usr/bin/env bash
# Runs the tests. Makes .venv and installs the package where no environment is active.
#   bash scripts/test.sh                 the default tests
#   bash scripts/test.sh -m slow         any arguments go to pytest
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
python -m pytest "$@"

# Sourced by the other scripts: uses the active environment, or makes and uses .venv beside them.
if [ -z "${VIRTUAL_ENV:-}" ] && [ -z "${CONDA_PREFIX:-}" ]; then
  if [ ! -x .venv/bin/python ]; then
    "${PYTHON:-python3}" -m venv .venv
  fi
  # shellcheck disable=SC1091
  source .venv/bin/activate
fi
stamp="$(python -c 'import sys; print(sys.prefix)')/.efficientps-installed"
if [ ! -f "$stamp" ] || [ setup.py -nt "$stamp" ] || [ requirements.txt -nt "$stamp" ] || ! python -c 'import efficientps' 2>/dev/null; then
  echo "Installing the package and its requirements (PyTorch is several gigabytes) ..."
  # torch and torchvision in one call, so that both come from the same index.
  python -m pip install --quiet torch torchvision
  python -m pip install --quiet --editable '.[dev,albumentations,docs]'
  touch "$stamp"
fi

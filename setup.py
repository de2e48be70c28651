"""Install the package with ``pip install -e .``; the extras are named below."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements() -> list[str]:
    """Return the lines of requirements.txt that name a package."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


version = re.search(r'__version__ = "(.+)"', (ROOT / "efficientps/__init__.py").read_text())
assert version is not None

setup(
    name="efficientps",
    version=version[1],
    description="Panoptic segmentation research on PyTorch Lightning: EfficientPS, trained, evaluated and run.",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["efficientps", "efficientps.*"]),
    package_data={"efficientps": ["py.typed"]},
    install_requires=requirements(),
    extras_require={
        "dev": [
            "pytest>=8",
            "pytest-timeout>=2.3",
            "ruff>=0.9",
            "mypy>=1.14",
            "pre-commit>=4",
            "psutil>=6",
            "efficientnet-pytorch>=0.7.1",  # the numerical oracle of the backbone
            "blosc2>=4",
        ],
        "docs": ["sphinx>=8.1", "furo>=2024.8.6", "myst-parser>=4"],
        "albumentations": ["albumentations>=2.0.8"],
        "inplace-abn": ["inplace-abn>=1.1.0"],
        "cache": ["blosc2>=4"],
        "bench": ["blosc2>=4"],
    },
)

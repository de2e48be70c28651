"""Install the package with ``pip install -e .``; the extras are named below."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
CONFIGURATIONS = ["config.yaml", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("configs/*.yaml"))]
"""What ``efficientps fit --config NAME`` finds in an installed package, as ``efficientps/presets/NAME.yaml``."""


class BuildWithPresets(build_py):
    """Copies the configurations into a package that is built; an editable installation reads those of the checkout."""

    def run(self) -> None:
        """Build the modules, then copy the configurations beside them."""
        super().run()
        if not self.editable_mode:
            for source, copy in self._copies().items():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Return the files that are written."""
        copies = [] if self.editable_mode else self._copies().values()
        return [*super().get_outputs(include_bytecode), *map(str, copies)]

    def get_source_files(self) -> list[str]:
        """Return the files that a source distribution needs for this."""
        return [*super().get_source_files(), *CONFIGURATIONS, "requirements.txt"]

    def _copies(self) -> dict[Path, Path]:
        folder = Path(self.build_lib, "efficientps/presets")
        return {ROOT / name: folder / Path(name).name for name in CONFIGURATIONS}


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
    cmdclass={"build_py": BuildWithPresets},
    entry_points={"console_scripts": ["efficientps = efficientps.cli.main:main"]},
    install_requires=requirements(),
    extras_require={
        "dev": [
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "ruff>=0.9",
            "mypy>=1.14",
            "pre-commit>=4",
            "psutil>=6",
            "efficientnet-pytorch>=0.7.1",  # the numerical oracle of the backbone
            "blosc2>=4",
            "av>=14",
        ],
        "docs": ["sphinx>=8.1", "furo>=2024.8.6", "myst-parser>=4"],
        "albumentations": ["albumentations>=2.0.8"],
        "inplace-abn": ["inplace-abn>=1.1.0"],
        "cache": ["blosc2>=4"],
        "video": ["av>=14"],
        "bench": ["blosc2>=4"],
    },
)

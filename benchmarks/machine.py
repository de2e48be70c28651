"""Description of the machine, the package versions and the source commit of a measurement."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "pillow",
    "timm",
    "torchmetrics",
    "cityscapesscripts",
    "transformers",
    "triton",
    "inplace-abn",
)
"""Packages whose versions affect the measurements."""


def describe_machine() -> dict[str, object]:
    """Return processor, cores, torch's threads, GPU, system, settings of glibc's allocator and package versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    description: dict[str, object] = {
        "processor": _processor(),
        "cores": cores,
        "torch_threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    if hasattr(os, "getloadavg"):
        description["load_of_the_last_minute"] = round(os.getloadavg()[0], 1)
    if allocator := {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")}:
        description["allocator"] = allocator
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        description["gpu"] = properties.name
        description["gpu_memory_gib"] = round(properties.total_memory / 2**30, 1)
        description["cuda"] = torch.version.cuda
    return description | {"packages": _versions()}


def source_state() -> str:
    """Return the commit of the source, with "+changes" if files are modified; "unknown" outside of a repository."""
    root = Path(__file__).resolve().parents[1]
    try:
        commit, changes = (
            subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changes else "")


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _processor() -> str:
    """Return the name of the processor; ``platform.processor`` is empty on many Linux systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

"""Look at this machine and try a small network on each device: ``efficientps checks``."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shutil
import time
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import efficientps

if TYPE_CHECKING:  # imported by the functions that need it, so that this command can say what is missing or broken
    import torch
    from packaging.specifiers import SpecifierSet

    from efficientps.networks.efficientps import InstanceHead
    from efficientps.structures import PanopticBatch

REQUIRED = {
    "torch": "torch",
    "torchvision": "torchvision",
    "pytorch-lightning": "pytorch_lightning",
    "jsonargparse": "jsonargparse",
    "timm": "timm",
    "transformers": "transformers",
    "scipy": "scipy",
    "torchmetrics": "torchmetrics",
    "cityscapesscripts": "cityscapesscripts",
    "pycocotools": "pycocotools",
    "faster-coco-eval": "faster_coco_eval",
    "huggingface-hub": "huggingface_hub",
    "matplotlib": "matplotlib",
    "msgspec": "msgspec",
    "numpy": "numpy",
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "rich": "rich",
    "safetensors": "safetensors",
    "tensorboard": "tensorboard",
    "tqdm": "tqdm",
}
"""Packages that this one needs, each with its module."""

OPTIONAL = {
    "blosc2": "data.cache needs it; pip install blosc2",
    "albumentations": "data.albumentations needs it; pip install albumentations",
    "av": "predicting on a video needs it; pip install av",
    "triton": "torch_compile and norm_implementation triton need it; PyTorch for CUDA brings it",
    "inplace_abn": "norm_implementation compiled needs it; pip install inplace-abn",
}
"""Modules that a part of the options needs, with what to do for those."""

_SIZE = (64, 128)
"""(height, width) of the image that the network is tried with, pixels."""


class Finding(NamedTuple):
    """One line of the output: ``failed`` is what makes the exit code 1."""

    state: Literal["ok", "missing", "failed"]
    text: str

    def __str__(self) -> str:
        """Return the line.

        >>> print(Finding("ok", "2 cores"))
        ok       2 cores
        """
        return f"{self.state:<8} {self.text}"


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Print a line for each thing that is looked at; return 1 if something that is needed fails, otherwise 0."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Print versions, devices, memory and optional parts, and try one training step and one prediction "
        "of a small network with random weights on each device. A line begins with ok, with missing for what is not "
        "needed, or with failed for what is; the last line sums up. The exit code is 1 if a line begins with failed.",
    )
    parser.parse_args(arguments)
    failed = 0
    for findings in (packages(), machine(), optional_parts(), devices()):
        for finding in findings:
            print(finding, flush=True)
            failed += finding.state == "failed"
    if failed:
        print(f"Not ready: {failed} of the lines above begin with 'failed' and say what to do.")
    else:
        print("Ready: this machine can train and predict. Nothing that is missing above is needed for it.")
    return int(failed > 0)


def packages() -> Iterator[Finding]:
    """Yield the versions of this package, of Python and of what is required."""
    yield Finding("ok", f"efficientps {efficientps.__version__} in {Path(efficientps.__file__).parent}")
    yield Finding("ok", f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    bounds = _bounds()
    for name, module in REQUIRED.items():
        allowed = bounds.get(name)
        if importlib.util.find_spec(module) is None:
            yield Finding("failed", f"{name} is not installed, and it is needed; pip install '{name}{allowed or ''}'")
        elif (found := _version(name)) is None:  # the module is that of another package, such as opencv-python
            yield Finding("ok", f"{name}: another package has its module {module}")
        elif allowed and not allowed.contains(found, prereleases=True):
            yield Finding("failed", f"{name} {found} does not fit; pip install '{name}{allowed}'")
        else:
            yield Finding("ok", f"{name} {found}")


def _bounds() -> dict[str, SpecifierSet]:
    """Return the versions of each required package that this one allows; nothing where they cannot be known."""
    try:
        from packaging.requirements import Requirement

        lines = requires("efficientps") or []
    except (ImportError, PackageNotFoundError):
        return {}
    found = [requirement for requirement in map(Requirement, lines) if requirement.marker is None]  # no extras
    return {requirement.name: requirement.specifier for requirement in found}


def _version(name: str) -> str | None:
    """Return the version of an installed package; None where there is none of that name."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def machine() -> Iterator[Finding]:
    """Yield the cores and the memory of the machine, and the memory that processes which load data share."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("ok", f"{cores} cores for this process")
    try:
        page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
        yield Finding(
            "ok", f"{_gib(page * pages)} of memory, {_gib(page * os.sysconf('SC_AVPHYS_PAGES'))} of it unused"
        )
    except (AttributeError, ValueError, OSError):  # systems without these names
        yield Finding("missing", "the size of the memory: this system does not tell it; nothing needs it")
    shared = Path("/dev/shm")
    if shared.is_dir():
        free = shutil.disk_usage(shared).free
        few = "" if free >= 2**30 else "; give a container more (docker: --shm-size 16g), or set data.num_workers to 0"
        yield Finding("missing" if few else "ok", f"{_gib(free)} of shared memory (/dev/shm) free{few}")


def optional_parts() -> Iterator[Finding]:
    """Yield the font of the overlays, the compiler, and the packages that a part of the options needs."""
    yield _font()
    for module, use in OPTIONAL.items():
        if importlib.util.find_spec(module) is None:
            yield Finding("missing", f"{module}, optional: {use}")
        else:
            yield Finding("ok", f"{' '.join(filter(None, (module, _version(module))))}, optional")
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))), None)
    if compiler is None:
        yield Finding("missing", "C compiler, optional: torch_compile and Triton need one; install gcc")
    else:
        yield Finding("ok", f"C compiler, optional: {compiler}")


def _font() -> Finding:
    """Return whether there are letters for the names in overlays."""
    try:
        from PIL import ImageFont, features

        font = ImageFont.load_default(size=16)
        if features.check("freetype2") and isinstance(font, ImageFont.FreeTypeFont):
            return Finding("ok", f"font of the overlays: {' '.join(filter(None, font.getname()))}, of Pillow")
    except (ImportError, OSError):
        pass
    return Finding("missing", "font of the overlays: Pillow was built without FreeType; install a wheel of Pillow")


def devices() -> Iterator[Finding]:
    """Yield what each device is, and whether a small network with each instance head trains and predicts on it."""
    try:
        import torch

        import efficientps.networks.efficientps
        from efficientps.cli.device_errors import why_no_gpu
    except (ImportError, OSError, RuntimeError) as error:  # a shared library is missing, or versions do not fit
        text = " ".join(str(error).split())
        is_missing = isinstance(error, ModuleNotFoundError)
        advice = "" if is_missing else "; install torch and torchvision together, from one index"
        yield Finding("failed", f"import of the networks: {text}{advice}")
        return
    found = [torch.device("cpu")]
    if not torch.cuda.is_available():
        yield Finding("missing", f"CUDA device: {why_no_gpu()}")
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        found.append(torch.device("cuda", index))
        yield _cuda(index)
    heads = efficientps.networks.efficientps.InstanceHead.__subclasses__()
    for device in found:
        for head in heads:
            if head.__module__.startswith("efficientps."):
                yield _attempt(device, head)


def _cuda(index: int) -> Finding:
    """Return name, memory and abilities of a CUDA device."""
    import torch

    card = torch.cuda.get_device_properties(index)
    # Ampere, compute capability 8.0, is the first that has bfloat16 in hardware.
    precision = "bf16-mixed or 16-mixed" if card.major >= 8 else "16-mixed; no bfloat16 in hardware"
    return Finding(
        "ok",
        f"cuda:{index}: {card.name}, {_gib(card.total_memory)}, compute capability {card.major}.{card.minor}, "
        f"CUDA {torch.version.cuda}; trainer.precision {precision}",
    )


def _attempt(device: torch.device, head: type[InstanceHead]) -> Finding:
    """Train one step and predict once with a small network; return how long that took, or what failed."""
    from efficientps.cli.errors import explain

    what = f"{device}: one training step and one prediction with {head.__name__}"
    begin = time.perf_counter()
    try:
        step_and_predict(device, head)
    except Exception as error:  # whatever it is, it is what this command is for
        sentence = explain(error) or f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Finding("failed", f"{what}: {sentence}")
    return Finding("ok", f"{what}, {time.perf_counter() - begin:.1f} s")


def step_and_predict(device: torch.device, head: type[InstanceHead]) -> None:
    """Train a small EfficientPS for one step on one image, and predict on that image, under mixed precision on CUDA.

    Raises:
        ArithmeticError: the loss is not finite, or no weight has changed.
        ValueError: the map that is predicted has another size than the image.
    """
    import torch

    from efficientps.backbones import EfficientNetBackbone
    from efficientps.data.loading.targets import training_batch
    from efficientps.networks.efficientps import EfficientPS, SemanticHead, TwoWayFPN

    network = EfficientPS(
        1,
        1,
        backbone=partial(EfficientNetBackbone, variant="b0", pretrained=False),
        neck=partial(TwoWayFPN, out_channels=64),
        semantic_head=partial(SemanticHead, channels=64),
        instance_head=head,
    ).to(device)
    mixed = torch.autocast(device.type, dtype=torch.float16, enabled=device.type == "cuda")
    batch = training_batch(_batch(device), num_stuff=1)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    with mixed:
        loss = torch.stack(list(network.train().loss(batch).values())).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    if not loss.isfinite():
        raise ArithmeticError(f"the loss is {loss.item()}")
    if all(torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True)):
        raise ArithmeticError("no weight has changed in a training step")
    with torch.inference_mode(), mixed:
        (prediction,) = network.eval().predict(batch)
    size = tuple(prediction.panoptic.segment_ids.shape)
    if size != _SIZE:
        raise ValueError(f"the predicted map has the size {size}, and the image {_SIZE}")


def _batch(device: torch.device) -> PanopticBatch:
    """Return a batch of one image, with one object in the middle of one stuff class."""
    import torch

    from efficientps.structures import Segment

    ids = torch.ones(_SIZE, dtype=torch.int32)
    ids[16:48, 32:96] = 2
    image = (60 * ids).to(torch.uint8).expand(1, 3, *_SIZE).contiguous()
    return {
        "images": image.to(device),
        "image_sizes": [_SIZE],
        "original_sizes": [_SIZE],
        "image_ids": ["square"],
        "segment_ids": [ids.to(device)],
        "segments": [[Segment(1, 0, False), Segment(2, 1, True)]],
    }


def _gib(number: int) -> str:
    return f"{number / 2**30:.1f} GiB"

"""Explain errors of a GPU, its driver, its memory and its compilers in one sentence, with a remedy."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytorch_lightning as pl
import torch

_LESS_MEMORY = (
    "lower data.batch_size (data.eval_batch_size in evaluation and prediction) or data.image_size, list parts of the "
    "network in model.network.activation_checkpointing, or set trainer.precision to bf16-mixed or 16-mixed."
)

_ON_THE_CPU = "or choose --trainer.accelerator cpu"

_SENTENCES = (
    # (pattern in the message, sentence): the first pattern that matches counts, and its groups fill in the sentence.
    (
        r"CUDA error: out of memory|CUDNN_STATUS_ALLOC_FAILED|CUBLAS_STATUS_ALLOC_FAILED",
        f"The GPU is out of memory; {_LESS_MEMORY} If another process fills the card, nvidia-smi names it.",
    ),
    (
        r"DefaultCPUAllocator: can't allocate memory: you tried to allocate (\d+) bytes",
        "The machine is out of memory: {} bytes more were asked. Lower data.batch_size, data.image_size or "
        "data.num_workers.",
    ),
    (
        r"DataLoader worker .*Bus error|unable to (?:(?:open|allocate) shared memory|(?:mmap|write to|resize).*/torch_)"
        r"(?!.*Too many open files)",
        "The processes that load data are out of shared memory (/dev/shm); give the container more (docker: --ipc=host "
        "or --shm-size 16g), or lower data.num_workers.",
    ),
    (
        r"DataLoader worker .*killed by signal: (Segmentation fault|Aborted|Illegal instruction|Floating point)",
        "A process that loads data crashed ({}); data.num_workers 0 loads in the main process, and its output shows "
        "where.",
    ),
    (
        r"DataLoader worker .*(?:Killed|exited unexpectedly|killed by signal)",
        "A process that loads data was killed, most often because the machine or the job has no memory left; lower "
        "data.num_workers, each of which holds batches, or data.batch_size (data.eval_batch_size in evaluation and "
        "prediction), or ask the scheduler for more memory.",
    ),
    (
        r"NVIDIA driver on your system is too old \(found version (\d+)\)",
        "The NVIDIA driver is too old for this PyTorch ({built}): it reaches CUDA {driver}. Update the driver, install "
        f"PyTorch for that CUDA, {_ON_THE_CPU}.",
    ),
    (
        r"Found no NVIDIA driver",
        "There is no NVIDIA driver on this machine, or its container was started without GPUs (docker: --gpus all); "
        f"install one, {_ON_THE_CPU}.",
    ),
    (
        r"No CUDA GPUs are available|invalid device ordinal",
        "A GPU was asked for that this process cannot see (CUDA_VISIBLE_DEVICES is {visible}, which leaves {count}); "
        f"correct CUDA_VISIBLE_DEVICES or trainer.devices, {_ON_THE_CPU}.",
    ),
    (
        r"devices are busy or unavailable",
        "Another process has the GPU for itself (nvidia-smi names it, and the compute mode); wait for it, or choose "
        "another card with CUDA_VISIBLE_DEVICES.",
    ),
    (
        r"no kernel image is available",
        "This PyTorch ({built}) has no kernels for this GPU, which is too old or too new for it; install another one, "
        f"{_ON_THE_CPU}.",
    ),
    (
        r"device-side assert triggered",
        "A kernel on the GPU met a number out of its range, most often a class in the annotations that the network "
        "does not have; efficientps check finds it, and --trainer.accelerator cpu --debug shows where it is "
        "used.",
    ),
    (
        r"CUDNN_STATUS_NOT_INITIALIZED|CUBLAS_STATUS_NOT_INITIALIZED",
        "cuDNN or cuBLAS did not start on the GPU: its memory is full (nvidia-smi shows by whom), or LD_LIBRARY_PATH "
        "names other CUDA libraries than PyTorch's own; free the one or unset the other.",
    ),
    (
        r"CUDNN_STATUS_(?:SUB)?LIBRARY_(?:VERSION_MISMATCH|LOADING_FAILED)|libcudnn\S* .*cannot open shared object|"
        r"cuDNN version incompatibility",
        "The cuDNN that was found is not PyTorch's own; unset LD_LIBRARY_PATH, or install PyTorch anew.",
    ),
    (
        r"uncorrectable ECC|hardware error|has fallen off the bus|device is lost",
        "The GPU reports a fault of its hardware; choose another card with CUDA_VISIBLE_DEVICES, and --ckpt_path last.",
    ),
    (
        r"Could not run 'torchvision::\w+' with arguments from the 'CUDA' backend|operator torchvision::\w+ does not",
        "torchvision does not fit PyTorch: it was built without CUDA, or for another version; install both together, "
        "from one index.",
    ),
    (
        r"No working C\+\+ compiler|CppCompileError|C\+\+ compile error",
        "torch.compile needs a working C++ compiler for a CPU; install g++ or name one in the environment variable "
        "CXX, or set model.network.torch_compile to [].",
    ),
    (
        r"Failed to find C(?:\+\+)? compiler|Compiler: \S+ is not found",
        "Triton and torch.compile need a C compiler; install gcc or name one in the environment variable CC, or do "
        "without both: model.network.norm_implementation in_place and model.network.torch_compile [].",
    ),
    (
        r"Command '\['[^']*(?:gcc|clang|cc)[^']*',.*returned non-zero exit status|Python\.h: No such file",
        "The C compiler could not build what Triton needs, most often because the headers of Python are missing; "
        "install them (python3-dev), or do without: model.network.norm_implementation in_place and "
        "model.network.torch_compile [].",
    ),
    (
        r"Cannot find a working triton installation|No module named 'triton",
        "torch.compile needs Triton, which is missing or too old; install PyTorch for CUDA, which brings it, or set "
        "model.network.torch_compile to [].",
    ),
    (
        r"Found (.+?) which is too old to be supported by the triton",
        "{} is too old for Triton; set model.network.torch_compile to [] and model.network.norm_implementation to "
        "in_place.",
    ),
)


def explain_device(error: BaseException) -> str | None:
    """Return one sentence for an error of a GPU or of the software for it, ``None`` for any other error.

    >>> explain_device(RuntimeError("CUDA error: device-side assert triggered"))[:50]
    'A kernel on the GPU met a number out of its range,'
    >>> explain_device(RuntimeError("shapes do not fit")) is None
    True
    """
    text = " ".join(str(error).split())
    if isinstance(error, torch.OutOfMemoryError):
        return _explain_memory(text)
    if not isinstance(error, (RuntimeError, subprocess.CalledProcessError)):
        return None
    for pattern, sentence in _SENTENCES:
        if match := re.search(pattern, text):
            version = match.group(1) if "{driver}" in sentence else "0"
            return sentence.format(
                *match.groups(),
                built=f"{torch.__version__}, built for CUDA {torch.version.cuda}",
                driver=f"{int(version) // 1000}.{int(version) % 1000 // 10}",
                visible=repr(os.environ["CUDA_VISIBLE_DEVICES"]) if "CUDA_VISIBLE_DEVICES" in os.environ else "not set",
                count=torch.cuda.device_count(),
            )
    return None


def _explain_memory(text: str) -> str:
    """Return the sentence for a message of PyTorch about memory, with the sizes in the message."""
    asked = re.search(r"Tried to allocate ([\d.]+ \w+)|Requested size: ([\d.]+ \w+)", text)
    card = re.search(r"GPU (\d+) has a total capacity of ([\d.]+ \w+) of which ([\d.]+ \w+) is free", text)
    sizes = []
    if asked:
        sizes.append(f"{asked.group(1) or asked.group(2)} more were asked")
    if card:
        sizes.append(f"GPU {card.group(1)} has {card.group(2)}, of which {card.group(3)} are free")
    numbers = f" ({', '.join(sizes)})" if sizes else ""
    return f"The GPU is out of memory{numbers}; {_LESS_MEMORY}"


def why_no_gpu() -> str:
    """Return the reason why PyTorch finds no CUDA device, with a remedy."""
    if torch.version.cuda is None and torch.version.hip is None:
        return (
            f"this PyTorch ({torch.__version__}) is built for the CPU alone; install one for CUDA (together with "
            f"torchvision, from one index), {_ON_THE_CPU}."
        )
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        sentence = explain_device(error)
        if sentence is None:
            sentence = f"PyTorch says: {str(error).partition(chr(10))[0].rstrip('.')}; check nvidia-smi, {_ON_THE_CPU}."
        return sentence[0].lower() + sentence[1:] if sentence.startswith(("There", "The", "A ")) else sentence
    return f"PyTorch found none; check nvidia-smi, {_ON_THE_CPU}."


def unused_gpu() -> str | None:
    """Return a sentence if a run uses the CPU although the machine has an NVIDIA GPU, otherwise ``None``."""
    has_driver = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    if not has_driver or torch.cuda.is_available() or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return None
    return f"This machine has an NVIDIA driver and the run uses the CPU: {why_no_gpu()}"


def check_bfloat16(trainer: pl.Trainer) -> None:
    """Refuse bfloat16 on a GPU that has no hardware for it.

    Raises:
        ValueError: the GPU is older than NVIDIA's Ampere (compute capability 8.0), which emulates it slowly.
    """
    device = trainer.strategy.root_device
    if device.type != "cuda" or not str(trainer.precision).startswith("bf16") or torch.version.hip is not None:
        return
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        raise ValueError(
            f"trainer.precision is {trainer.precision}, and {torch.cuda.get_device_name(device)} (compute capability "
            f"{major}.{minor}) has no bfloat16, which begins with 8.0; choose 16-mixed."
        )

"""What is said where a GPU, its driver, its memory or its compiler fails.

Oracle: the sentence; the causes are raised, or shown, where PyTorch, Triton and the driver would.
"""

import subprocess

import pytest
import torch

from efficientps.cli.errors import explain
from efficientps.cli.panoptic_cli import PanopticCLI
from tests.command_line import refuse, run, write_config
from tests.tiny_network import TinyNetwork

OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.05 GiB is free."
    " Including non-PyTorch memory, this process has 78.04 GiB memory in use. Of the allocated memory 76.00 GiB is "
    "allocated by PyTorch, and 1.00 GiB is reserved by PyTorch but unallocated."
)


@pytest.fixture
def config(cityscapes_root, tmp_path):
    return write_config(tmp_path, cityscapes_root)


@pytest.fixture
def card(monkeypatch):
    """Show PyTorch one card of a given compute capability, as far as it is asked before anything is computed."""

    def show(capability=(9, 0), count=1):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Tesla T4")
        monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)

    return show


GPU = ["--trainer.accelerator", "gpu"]


# ---------------------------------------------------------------------------------------------------------- no memory


@pytest.mark.parametrize(("subcommand", "method"), [("fit", "loss"), ("validate", "predict"), ("predict", "predict")])
def test_out_of_memory(config, capfd, monkeypatch, subcommand, method):
    def fail(self, batch):
        raise torch.OutOfMemoryError(OUT_OF_MEMORY)

    monkeypatch.setattr(TinyNetwork, method, fail)
    sentence = refuse(capfd, subcommand, "--config", config, "--trainer.num_sanity_val_steps", 0)
    assert (
        "(2.00 GiB more were asked, GPU 0 has 79.11 GiB, of which 1.05 GiB are free); lower data.batch_size" in sentence
    )
    for option in (
        "data.batch_size",
        "data.eval_batch_size",
        "data.image_size",
        "activation_checkpointing",
        "16-mixed",
    ):
        assert option in sentence


@pytest.mark.parametrize("step", [1, 3])
def test_what_a_run_without_memory_leaves(config, capfd, monkeypatch, tmp_path, step):
    """Oracle: hand-worked; a file after every second step."""
    loss, steps = TinyNetwork.loss, iter(range(100))

    def fail_at_last(self, batch):
        if next(steps) == step:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)
        return loss(self, batch)

    monkeypatch.setattr(TinyNetwork, "loss", fail_at_last)
    assert run("fit", "--config", config, "--last_checkpoint.every_n_steps", 2) == 1
    said = capfd.readouterr().err
    assert "Traceback" not in said
    kept = tmp_path / "runs/version_0/checkpoints/last.ckpt"
    if step == 1:
        assert "This run had written no checkpoint yet." in said
    else:
        assert f"{kept} holds the run up to step 3; --ckpt_path last continues from there." in said
    monkeypatch.setattr(TinyNetwork, "loss", loss)
    assert run("fit", "--config", config, "--ckpt_path", "last").trainer.global_step == 6


# ------------------------------------------------------------------------------------------------------------- no GPU


@pytest.mark.skipif(
    torch.cuda.is_available() or torch.version.cuda is None, reason="needs CUDA's PyTorch without a card"
)
def test_no_driver(config, capfd):
    sentence = refuse(capfd, "fit", "--config", config, *GPU)
    assert "trainer.accelerator asks for a GPU, and there is none to use: there is no NVIDIA driver" in sentence
    assert sentence.endswith("or choose --trainer.accelerator cpu.")


def test_pytorch_for_the_cpu_alone(config, capfd, monkeypatch, card):
    card(count=0)
    monkeypatch.setattr(torch.version, "cuda", None)
    sentence = refuse(capfd, "fit", "--config", config, *GPU)
    assert f"there is none to use: this PyTorch ({torch.__version__}) is built for the CPU alone" in sentence


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by ...",
            "the NVIDIA driver is too old for this PyTorch",
        ),
        ("No CUDA GPUs are available", "(CUDA_VISIBLE_DEVICES is '7', which leaves 0); correct CUDA_VISIBLE_DEVICES"),
        (
            "Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized",
            "Error 802: system not yet initialized; check nvidia-smi",
        ),
    ],
)
def test_driver_that_gives_no_card(config, capfd, monkeypatch, card, message, said):
    def fail():
        raise RuntimeError(message)

    card(count=0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", fail)
    for accelerator in ("gpu", "cuda"):
        sentence = refuse(capfd, "fit", "--config", config, "--trainer.accelerator", accelerator)
        assert said in sentence
        assert "or choose --trainer.accelerator cpu" in sentence
    if "11040" in message:
        assert "it reaches CUDA 11.4. Update the driver" in sentence


def test_cpu_taken_beside_an_unusable_gpu_is_said(config, capfd, monkeypatch, tmp_path, card):
    """Oracle: contract; a run that the GPU was meant for does not go to the CPU without a word."""

    def fail():
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).")

    card(count=0)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", fail)
    (tmp_path / "nvidia-smi").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    options = ["--config", config, "--trainer.limit_val_batches", 1]
    run("validate", *options, "--trainer.accelerator", "auto")
    line = next(line for line in capfd.readouterr().err.splitlines() if line.startswith("This machine has an NVIDIA"))
    assert "the run uses the CPU: the NVIDIA driver is too old" in line
    run("validate", *options, "--trainer.accelerator", "cpu")
    assert "NVIDIA driver" not in capfd.readouterr().err


@pytest.mark.parametrize("devices", ["4", "[0, 3]"])
def test_more_devices_than_there_are(config, capfd, card, monkeypatch, devices):
    card(count=2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    sentence = refuse(capfd, "fit", "--config", config, *GPU, "--trainer.devices", devices)
    asked = "[0, 1, 2, 3]" if devices == "4" else devices
    assert (
        f"trainer.devices asks for the GPUs {asked}, and there are [0, 1] of those in CUDA_VISIBLE_DEVICES=2,3"
        in sentence
    )


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_bfloat16_on_a_card_without_it(config, capfd, card, precision):
    card(capability=(7, 5))
    sentence = refuse(capfd, "fit", "--config", config, *GPU, "--trainer.precision", precision)
    assert f"trainer.precision is {precision}, and Tesla T4 (compute capability 7.5) has no bfloat16" in sentence
    assert sentence.endswith("choose 16-mixed.")


@pytest.mark.parametrize(("capability", "precision"), [((8, 0), "bf16-mixed"), ((7, 0), "16-mixed")])
def test_precisions_that_fit_the_card(config, card, monkeypatch, capability, precision):
    card(capability=capability)
    started = []
    monkeypatch.setattr(PanopticCLI, "validate", lambda self, **_: started.append(self.trainer.precision))
    run("validate", "--config", config, *GPU, "--trainer.precision", precision)
    assert started == [precision]


# --------------------------------------------------------------------------------------- in the middle, and compilers


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("CUDA error: out of memory\nCUDA kernel errors might be ...", "GPU is out of memory; lower data.batch_size"),
        ("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED", "its memory is full (nvidia-smi shows by whom)"),
        (
            "CUDA error: device-side assert triggered\nCUDA kernel",
            "a class in the annotations that the network does not",
        ),
        ("CUDA error: all CUDA-capable devices are busy or unavailable", "Another process has the GPU for itself"),
        ("CUDA error: no kernel image is available for execution on the device", "has no kernels for this GPU"),
        ("CUDA error: invalid device ordinal", "A GPU was asked for that this process cannot see"),
        ("CUDA error: uncorrectable ECC error encountered", "fault of its hardware"),
        (
            "Could not run 'torchvision::nms' with arguments from the 'CUDA' backend. This could be because ...",
            "torchvision does not fit PyTorch",
        ),
        (
            "DataLoader worker (pid 8) is killed by signal: Bus error. It is possible that dataloader's workers are "
            "out of shared memory. Please try to raise your shared memory limit.",
            "out of shared memory (/dev/shm); give the container more",
        ),
        (
            "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback ...\nRuntimeError: unable to "
            "write to file </torch_12_34_0>: No space left on device (28)",
            "out of shared memory (/dev/shm)",
        ),
        ("DataLoader worker (pid 8) is killed by signal: Killed.", "no memory left; lower data.num_workers, each of"),
        ("DataLoader worker (pid(s) 8, 9) exited unexpectedly", "or data.batch_size (data.eval_batch_size in"),
        ("DataLoader worker (pid 8) is killed by signal: Terminated.", "or ask the scheduler for more memory"),
        (
            "DataLoader worker (pid 8) is killed by signal: Segmentation fault.",
            "crashed (Segmentation fault); data.num",
        ),
        (
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
            "allocate 4000000 bytes. Error code 12 (Cannot allocate memory)",
            "The machine is out of memory: 4000000 bytes more were asked.",
        ),
    ],
)
def test_errors_in_the_middle_of_a_run(config, capfd, monkeypatch, message, said):
    def fail(self, batch):
        raise RuntimeError(message)

    monkeypatch.setattr(TinyNetwork, "loss", fail)
    sentence = refuse(capfd, "fit", "--config", config)
    assert said in sentence
    assert "Traceback" not in sentence


def test_nccl_says_where_its_reasons_are():
    sentence = explain(torch.distributed.DistBackendError("NCCL error in: x.cpp:3, unhandled system error"))
    assert sentence.endswith("NCCL_DEBUG=INFO makes NCCL name its reasons.")


def test_no_c_compiler(monkeypatch):
    """Oracle: the error of Triton itself, on a machine without any."""
    build = pytest.importorskip("triton.runtime.build")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CC", raising=False)
    find = getattr(build, "_find_compiler", None)
    if find is None:
        pytest.skip("this Triton looks for its compiler elsewhere")
    find.cache_clear()
    with pytest.raises(RuntimeError) as caught:
        find("c")
    find.cache_clear()
    sentence = explain(caught.value)
    assert "install gcc or name one in the environment variable CC" in sentence
    assert "model.network.norm_implementation in_place and model.network.torch_compile []" in sentence
    wrapped = torch._dynamo.exc.BackendCompilerFailed(lambda: None, caught.value, None)
    assert explain(wrapped) == sentence


def test_no_python_headers(tmp_path):
    """Oracle: the error of ``subprocess``, as Triton calls the compiler."""
    (tmp_path / "gcc").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "gcc").chmod(0o755)
    with pytest.raises(subprocess.CalledProcessError) as caught:
        subprocess.check_call([str(tmp_path / "gcc"), "main.c", "-O3"])
    assert "headers of Python are missing; install them (python3-dev)" in explain(caught.value)


def test_no_triton_for_compiled_parts():
    exc = pytest.importorskip("torch._inductor.exc")
    sentence = explain(exc.TritonMissing(None))
    assert sentence.startswith("torch.compile needs Triton") and "model.network.torch_compile to []" in sentence


@pytest.mark.gpu
def test_memory_of_a_real_card():
    """Oracle: the message of PyTorch itself, whose sizes are found."""
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(2**50, dtype=torch.uint8, device="cuda")
    assert "1048576.00 GiB more were asked, GPU 0 has " in explain(caught.value)


@pytest.mark.parametrize("compiler", ["there-is-none", "false"])
def test_torch_compile_without_a_cpp_compiler(compiler):
    """Oracle: what PyTorch raises where the compiler is missing, and where it does not work."""
    torch._dynamo.reset()
    settings = {"cpp.cxx": (compiler,), "force_disable_caches": True}
    with torch._inductor.config.patch(settings), pytest.raises(RuntimeError) as caught:
        torch.compile(lambda x: (x + 1).sin(), backend="inductor")(torch.zeros(3))
    assert "install g++ or name one in the environment variable CXX, or set model.network" in explain(caught.value)

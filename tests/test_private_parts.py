"""The parts of other packages that the package uses although they are not their public interface.

A new release may change them without a word. Each one stands in ``PARTS`` with the reason for its use and a check of
what is relied on, which runs against the installed release and names the part that changed.
"""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateFinder, WeightAveraging
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.loops.fit_loop import _FitLoop
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.trainer.connectors.logger_connector.logger_connector import _LoggerConnector
from pytorch_lightning.tuner import Tuner
from torch import nn

import efficientps

PACKAGE = Path(__file__).parent.parent / "efficientps"

UNDOCUMENTED = ("timm.", "torchvision.models.detection.", "torchvision.ops.misc.", "transformers.models.")
"""Modules without an underscore whose names are not in the documentation of their packages, or not for others' use."""

NAMED_TUPLE = {"_asdict", "_fields", "_make", "_replace"}
"""Public in spite of the underscore: documented methods of ``typing.NamedTuple``."""


class Part(NamedTuple):
    why: str
    holds: Callable[[], bool]


def parameters(function: Callable[..., object]) -> list[str]:
    return list(inspect.signature(function).parameters)


def imported(name: str) -> Callable[..., object]:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def takes(name: str, *expected: str, forward: tuple[str, ...] = ()) -> Callable[[], bool]:
    """Whether a function or class takes these arguments first, and its method ``forward`` those."""

    def holds() -> bool:
        item = imported(name)
        agrees = parameters(item)[: len(expected)] == list(expected)
        return agrees and (not forward or tuple(parameters(item.forward)[1 : len(forward) + 1]) == forward)

    return holds


def dispatch_mode_is_called_for_each_operation() -> bool:
    from torch.utils._python_dispatch import TorchDispatchMode

    names = []

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            names.append(str(func))
            return func(*args, **(kwargs or {}))

    with Recorder():
        torch.ones(2).neg()
    return names == ["aten.ones.default", "aten.neg.default"]


def scaler_reads_the_flag_of_the_optimizer() -> bool:
    fused = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, fused=True)
    return fused._step_supports_amp_scaling and "_step_supports_amp_scaling" in inspect.getsource(torch.amp.GradScaler)


def foreach_copies() -> bool:
    copies = [torch.zeros(2), torch.zeros(3)]
    torch._foreach_copy_(copies, [torch.ones(2), torch.ones(3)])
    return all(bool(copy.all()) for copy in copies)


def convolution_takes_the_slope() -> bool:
    names = [argument.name for argument in torch.ops.mkldnn._convolution_pointwise.default._schema.arguments]
    return names[:10] == ["X", "W", "B", "padding", "stride", "dilation", "groups", "attr", "scalars", "algorithm"]


DETR = "transformers.models.detr.modeling_detr."
DETECTION = "torchvision.models.detection."
PARTS = {
    "pytorch_lightning.*._should_accumulate": Part(
        "no checkpoint is written between two steps of the optimizer",
        lambda: parameters(_FitLoop._should_accumulate) == ["self"],
    ),
    "pytorch_lightning.*._should_check_val_fx": Part(
        "a checkpoint waits for the validation that follows the step",
        lambda: parameters(_TrainingEpochLoop._should_check_val_fx) == ["self", "data_fetcher"],
    ),
    "pytorch_lightning.*._batches_that_stepped": Part(
        "a resumed run continues the numbers of steps in the logs",
        lambda: (
            "self._skip_next_val = True" in inspect.getsource(_TrainingEpochLoop.advance)
            and "self._batches_that_stepped += 1" in inspect.getsource(_TrainingEpochLoop.on_advance_end)
        ),
    ),
    "pytorch_lightning.*._data_fetcher": Part(
        "argument of _should_check_val_fx",
        lambda: pl.Trainer(logger=False, accelerator="cpu").fit_loop._data_fetcher is None,
    ),
    "pytorch_lightning.*._update_attr": Part(
        "a learning-rate finder that would change the rate of a run is refused",
        lambda: LearningRateFinder(update_attr=False)._update_attr is False,
    ),
    "pytorch_lightning.*._early_exit": Part(
        "the learning-rate finder of a tuner ends before the training",
        lambda: LearningRateFinder()._early_exit is False and "_early_exit = True" in inspect.getsource(Tuner.lr_find),
    ),
    "pytorch_lightning.*._average_model": Part(
        "the mean of the weights follows those in training until it begins",
        lambda: WeightAveraging()._average_model is None,
    ),
    "pytorch_lightning.*._trainer": Part(
        "a module that no trainer runs reads a checkpoint, too", lambda: pl.LightningModule()._trainer is None
    ),
    "pytorch_lightning.*._logger_connector": Part(
        "a step is logged before the checkpoint that is written in it",
        lambda: hasattr(_LoggerConnector, "metrics") and hasattr(_LoggerConnector, "should_update_logs"),
    ),
    "pytorch_lightning.*._kwargs": Part(
        "TensorBoard passes over what a resumed run writes again",
        lambda: TensorBoardLogger(".", purge_step=3)._kwargs == {"purge_step": 3},
    ),
    "pytorch_lightning.*._subcommand_parsers": Part(
        "the defaults of a network that the configuration names, in every subcommand",
        lambda: "self._subcommand_parsers: dict[str, LightningArgumentParser] = {}" in inspect.getsource(LightningCLI),
    ),
    "pytorch_lightning.cli.LightningCLI._parse_ckpt_path": Part(
        "overridden: no configuration is read from inside a checkpoint",
        lambda: parameters(LightningCLI._parse_ckpt_path) == ["self"],
    ),
    "torch.nn.modules.module.Module._apply": Part(
        "overridden: anchors that are kept for a size are dropped when the module moves",
        lambda: parameters(nn.Module._apply) == ["self", "fn", "recurse"],
    ),
    "torch.*._parameters": Part(
        "the bias of a layer, without the attributes that subclasses compute",
        lambda: nn.Linear(1, 1)._parameters.keys() == {"weight", "bias"},
    ),
    "torch.*._forward_hooks": Part("a layer with hooks is not folded", lambda: len(nn.Identity()._forward_hooks) == 0),
    "torch.*._forward_pre_hooks": Part(
        "a layer with hooks is not folded", lambda: len(nn.Identity()._forward_pre_hooks) == 0
    ),
    "torch.*._step_supports_amp_scaling": Part(
        "a resumed fused optimizer is told of an overflow", scaler_reads_the_flag_of_the_optimizer
    ),
    "torch._foreach_copy_": Part("copies all statistics in one operation", foreach_copies),
    "torch._foreach_norm": Part(
        "the norms of all gradients in one operation",
        lambda: [norm.item() for norm in torch._foreach_norm([torch.tensor([3.0, 4.0])])] == [5.0],
    ),
    "torch.nn.modules.batchnorm._BatchNorm": Part(
        "the base class of all batch norms, synchronised ones too",
        lambda: all(
            issubclass(norm, imported("torch.nn.modules.batchnorm._BatchNorm"))
            for norm in (nn.BatchNorm2d, nn.SyncBatchNorm)
        ),
    ),
    "torch.ops.aten._to_copy": Part(
        "the operation that a change of type is recorded as",
        lambda: torch.ops.aten._to_copy.default._schema.arguments[0].name == "self",
    ),
    "torch.ops.mkldnn._convolution_pointwise": Part(
        "convolution and leaky ReLU in one pass on a CPU", convolution_takes_the_slope
    ),
    "torch.utils._python_dispatch.TorchDispatchMode": Part(
        "records the operations of a network", dispatch_mode_is_called_for_each_operation
    ),
    "torch.utils._pytree.tree_leaves": Part(
        "the tensors among the arguments of an operation",
        lambda: imported("torch.utils._pytree.tree_leaves")([1, {"a": (2, None)}]) == [1, 2, None],
    ),
    "timm.layers.conv2d_same.Conv2dSame": Part(
        "convolutions whose padding the inference copy moves into the kernel",
        takes("timm.layers.conv2d_same.Conv2dSame", "in_channels", "out_channels", "kernel_size", "stride"),
    ),
    "timm.layers.padding.get_same_padding": Part(
        "zeros that TensorFlow's padding adds along an axis",
        lambda: [imported("timm.layers.padding.get_same_padding")(size, 3, 2, 1) for size in (8, 9)] == [1, 2],
    ),
    "timm.layers.padding.pad_same": Part(
        "TensorFlow's padding", takes("timm.layers.padding.pad_same", "x", "kernel_size", "stride")
    ),
    "timm.layers.norm_act.BatchNormAct2d": Part(
        "the norms of timm's networks, to replace and to fold",
        takes("timm.layers.norm_act.BatchNormAct2d", "num_features", "eps", "momentum", "affine"),
    ),
    "timm.layers.norm_act.FrozenBatchNormAct2d": Part(
        "the frozen norms of timm's networks, to fold",
        takes("timm.layers.norm_act.FrozenBatchNormAct2d", "num_features", "eps"),
    ),
    "timm.utils.model.freeze_batch_norm_2d": Part(
        "frozen norms of ResNet", takes("timm.utils.model.freeze_batch_norm_2d", "module")
    ),
    f"{DETECTION}anchor_utils.AnchorGenerator": Part(
        "anchors of the pyramid's cells",
        lambda: (
            parameters(imported(f"{DETECTION}anchor_utils.AnchorGenerator")) == ["sizes", "aspect_ratios"]
            and parameters(imported(f"{DETECTION}anchor_utils.AnchorGenerator").grid_anchors)
            == ["self", "grid_sizes", "strides"]
        ),
    ),
    f"{DETECTION}faster_rcnn.FastRCNNPredictor": Part(
        "last layers of the box branch",
        takes(f"{DETECTION}faster_rcnn.FastRCNNPredictor", "in_channels", "num_classes"),
    ),
    f"{DETECTION}rpn.RPNHead": Part(
        "convolutions of the proposals", takes(f"{DETECTION}rpn.RPNHead", "in_channels", "num_anchors", "conv_depth")
    ),
    f"{DETECTION}rpn.concat_box_prediction_layers": Part(
        "outputs of the levels in one tensor",
        takes(f"{DETECTION}rpn.concat_box_prediction_layers", "box_cls", "box_regression"),
    ),
    "transformers.models.detr.configuration_detr.DetrConfig": Part(
        "sizes of the transformer",
        lambda: imported("transformers.models.detr.configuration_detr.DetrConfig")(d_model=32).d_model == 32,
    ),
    f"{DETR}DetrEncoder": Part(
        "the encoder",
        takes(
            f"{DETR}DetrEncoder",
            "config",
            forward=("inputs_embeds", "attention_mask", "spatial_position_embeddings"),
        ),
    ),
    f"{DETR}DetrEncoderLayer": Part(
        "its layer, without a wait for the device",
        takes(
            f"{DETR}DetrEncoderLayer",
            "config",
            forward=("hidden_states", "attention_mask", "spatial_position_embeddings"),
        ),
    ),
    f"{DETR}DetrDecoder": Part(
        "the decoder, whose layers are called one by one",
        takes(
            f"{DETR}DetrDecoderLayer",
            "config",
            forward=(
                "hidden_states",
                "attention_mask",
                "spatial_position_embeddings",
                "object_queries_position_embeddings",
                "encoder_hidden_states",
                "encoder_attention_mask",
            ),
        ),
    ),
    f"{DETR}DetrMLPPredictionHead": Part(
        "the box head",
        takes(f"{DETR}DetrMLPPredictionHead", "input_dim", "hidden_dim", "output_dim", "num_layers"),
    ),
    f"{DETR}DetrSinePositionEmbedding": Part(
        "position embeddings",
        takes(
            f"{DETR}DetrSinePositionEmbedding", "num_position_features", forward=("shape", "device", "dtype", "mask")
        ),
    ),
    f"{DETR}DetrMHAttentionMap": Part(
        "attention maps of the mask head", takes(f"{DETR}DetrMHAttentionMap", "hidden_size", "num_attention_heads")
    ),
    f"{DETR}DetrMaskHeadSmallConv": Part(
        "convolutions of the mask head",
        takes(f"{DETR}DetrMaskHeadSmallConv", "input_channels", "fpn_channels", "hidden_size"),
    ),
    f"{DETR}DetrFPNFusionStage": Part(
        "stages of those convolutions", takes(f"{DETR}DetrFPNFusionStage", "fpn_channels", "current_channels")
    ),
}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in NAMED_TUPLE | {"_"}


def own_private_names(trees: list[ast.AST]) -> set[str]:
    """The private names that programs define: functions, classes, variables, attributes of ``self``, buffers."""
    names = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()):
                names.add(name)
            case ast.Call(func=ast.Attribute(attr="register_buffer"), args=[ast.Constant(value=name), *_]):
                names.add(name)
    return {name for name in names if is_private(name)}


def foreign_private_names(tree: ast.AST, own: set[str]) -> set[str]:
    """The private and undocumented names of other packages in a program.

    Modules and what is imported from them stand in full; an attribute of an object is ``*.name``.
    """
    names = set()
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=module, names=aliases):
                found = {f"{module}.{alias.name}" for alias in aliases}
                names |= {name for name in found if not name.startswith("efficientps.")}
            case ast.Import(names=aliases):
                names |= {alias.name for alias in aliases}
            case ast.Attribute(attr=attribute) if is_private(attribute) and attribute not in own:
                written = ast.unparse(node)
                names.add(written if written.startswith("torch.") else f"*.{attribute}")
            case ast.Call(func=ast.Name(id="getattr" | "hasattr" | "setattr"), args=[_, ast.Constant(value=name), *_]):
                if is_private(str(name)) and name not in own:
                    names.add(f"*.{name}")
    return {
        name
        for name in names
        if any(map(is_private, name.split("."))) or (name.startswith(UNDOCUMENTED) and name.count(".") > 1)
    }


def overridden_private_names() -> set[str]:
    """The private methods of other packages' classes that classes of the package override."""
    names = set()
    for found in pkgutil.walk_packages(efficientps.__path__, "efficientps."):
        module = importlib.import_module(found.name)
        for item in vars(module).values():
            if inspect.isclass(item) and item.__module__ == found.name:
                bases = [
                    base for base in item.__mro__[1:] if base.__module__.split(".")[0] in ("torch", "pytorch_lightning")
                ]
                names |= {
                    f"{base.__module__}.{base.__qualname__}.{name}"
                    for name, value in vars(item).items()
                    if is_private(name) and inspect.isfunction(value)
                    for base in bases
                    if name in vars(base)
                }
    return names


def test_all_private_parts_are_listed():
    """Oracle: the source of the package, read with ast, and its classes."""
    trees = {path: ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}
    own = own_private_names(list(trees.values()))
    listed = {name if "*" not in name else name[name.index("*") :] for name in PARTS}
    found = overridden_private_names()
    unlisted = [f"an override of {name}" for name in found - PARTS.keys()]
    for path, tree in trees.items():
        names = foreign_private_names(tree, own)
        unlisted += [f"{path.relative_to(PACKAGE.parent)} uses {name}" for name in names - listed]
        found |= names
    assert not unlisted
    assert not [name for name in listed if name not in found]  # no longer used


def test_the_search_finds_private_parts():
    """Oracle: by hand."""
    program = """
from torch.nn import Module
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.detection.rpn import RPNHead
from efficientps.structures import _own
import timm, torch._dynamo

class Own:
    def __init__(self):
        self._kept = torch._foreach_norm(self._other)
        hasattr(loop, "_fetcher")
        loop._kept, loop.__dict__, entry._replace(a=1)
"""
    tree = ast.parse(program)
    assert foreign_private_names(tree, own_private_names([tree])) == {
        "torch.nn.modules.batchnorm._BatchNorm",
        "torchvision.models.detection.rpn.RPNHead",
        "torch._dynamo",
        "torch._foreach_norm",
        "*._other",
        "*._fetcher",
    }


def test_private_parts_are_what_is_relied_on():
    """Oracle: the installed releases."""
    changed = {}
    for name, part in PARTS.items():
        try:
            if not part.holds():
                changed[name] = f"has other arguments or results; used for: {part.why}"
        except (AttributeError, ImportError, RuntimeError, TypeError, ValueError) as error:
            changed[name] = f"{error}; used for: {part.why}"
    assert not changed

"""Former module names of classes that saved configurations name, so that runs of the first edition go on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

NETWORKS = {
    "EfficientNetBackbone": "efficientps.backbones",
    "ResNetBackbone": "efficientps.backbones",
    "EfficientPS": "efficientps.networks.efficientps",
    "InstanceHead": "efficientps.networks.efficientps",
    "MaskRCNNHead": "efficientps.networks.efficientps",
    "SOLOv2Head": "efficientps.networks.efficientps",
    "SemanticHead": "efficientps.networks.efficientps",
    "TwoWayFPN": "efficientps.networks.efficientps",
    "DETRPanoptic": "efficientps.networks.detr",
    "Detector": "efficientps.networks.detr",
    "PanopticNetwork": "efficientps.networks",
}

FORMER_MODULES = {
    "efficientps.models": NETWORKS,
    "efficientps.models.detr": NETWORKS,
    "efficientps.models.mask_rcnn": NETWORKS,
    "efficientps.models.solov2": NETWORKS,
    "efficientps.data.datamodule": {
        "CityscapesDataModule": "efficientps.data.sources.cityscapes",
        "PanopticDataModule": "efficientps.data.loading.datamodule",
    },
    "efficientps.data.coco_panoptic": {"CocoPanopticDataModule": "efficientps.data.sources.coco_panoptic"},
    "efficientps.training.random_states": {"RandomStates": "efficientps.training.checkpoints.random_states"},
}
"""Former module -> name of a class -> its present module."""


class FormerModules(MetaPathFinder, Loader):
    """Imports a former module name as a module that finds its classes in their present modules."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to import a former module, ``None`` for any other."""
        return ModuleSpec(fullname, self, is_package=True) if fullname in FORMER_MODULES else None

    def exec_module(self, module: ModuleType) -> None:
        """Let the module look up its classes in their present modules."""
        places = FORMER_MODULES[module.__name__]

        def find(name: str) -> object:
            if name not in places:
                raise AttributeError(f"module '{module.__name__}' has no attribute '{name}'")
            return getattr(import_module(places[name]), name)

        module.__getattr__ = find  # type: ignore[method-assign]


def install() -> None:
    """Let former module names be imported."""
    if not any(isinstance(finder, FormerModules) for finder in sys.meta_path):
        sys.meta_path.insert(0, FormerModules())  # first: emptied folders look like packages

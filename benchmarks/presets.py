"""Builds the networks of the presets in ``configs/``, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from efficientps.networks.network import PanopticNetwork

FOLDER = Path(__file__).resolve().parents[1] / "configs"
"""The presets of the checkout; an installed package has none."""

REFERENCE = "cityscapes_512x1024_adam"
"""The preset that is compared with the peers: EfficientNet-B5 with Mask R-CNN at half resolution."""

ALL = (
    REFERENCE,
    "cityscapes_paper",
    "cityscapes_official",
    "cityscapes_solov2_512x1024",
    "cityscapes_solov2_1024x2048",
)


def path(name: str) -> Path:
    """Return the file of a preset.

    Raises:
        FileNotFoundError: if there is no such preset.
    """
    file = FOLDER / f"{name}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(other.stem for other in FOLDER.glob("*.yaml")))
        raise FileNotFoundError(f"There is no preset '{file}'; the presets are {known or 'in a checkout only'}.")
    return file


def build(name: str, *, num_queries: int | None = None) -> PanopticNetwork:
    """Build the network of a preset for the classes of Cityscapes.

    Args:
        name: name of the preset.
        num_queries: number of queries, instead of the preset's number; ignored by networks without queries.

    Raises:
        FileNotFoundError: if there is no such preset.
    """
    import yaml
    from jsonargparse import ArgumentParser

    # A preset names classes without their modules; jsonargparse finds a class only after its module is imported.
    from efficientps.data.sources.cityscapes import CITYSCAPES_CATEGORIES
    from efficientps.networks.efficientps import EfficientPS
    from efficientps.networks.network import PanopticNetwork

    choices: dict[str, Any] = yaml.safe_load(path(name).read_text())["model"]["network"]
    arguments = choices.get("init_args", choices)
    arguments["backbone"]["pretrained"] = False
    if num_queries is not None and "detector" in arguments:
        arguments["detector"]["num_queries"] = num_queries
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--network", type=Callable[[int, int], PanopticNetwork], default=EfficientPS)
    if "class_path" in choices:
        import efficientps.networks.detr  # noqa: F401 - the other family

        # Without its own defaults it would keep those of EfficientPS for options of the same name.
        parser.set_defaults({"network": {"class_path": choices["class_path"]}})
    built = parser.instantiate(parser.parse_object({"network": choices}))
    network: PanopticNetwork = built.network(CITYSCAPES_CATEGORIES.num_stuff, CITYSCAPES_CATEGORIES.num_things)
    return network

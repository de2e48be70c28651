import pytest

from benchmarks import presets


def test_reference_preset_is_the_published_network():
    # Oracle: the paper's parameter count (EfficientPS, Table 8).
    network = presets.build(presets.REFERENCE)
    assert sum(parameter.numel() for parameter in network.parameters()) == 40_891_080


def test_unknown_preset_is_named():
    with pytest.raises(FileNotFoundError, match=r"There is no preset '.*nothing.yaml'; the presets are cityscapes_"):
        presets.build("nothing")

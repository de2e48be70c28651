import pytest
import torch

from benchmarks import presets
from benchmarks.batches import street_batch
from benchmarks.forced_instances import draw_street_masks, force_instances


@pytest.mark.parametrize("name", ["demo", "demo_solov2"])
def test_a_network_finds_exactly_so_many_instances(name):
    # Oracle: the number that was asked for; running statistics and momenta stay sane.
    torch.manual_seed(0)
    network = presets.build(name)
    force_instances(network, 7)
    draw_street_masks(network, (128, 256), lambda tensor: tensor)
    with torch.no_grad():
        (prediction,) = network.predict(street_batch(1, (128, 256)))
    assert len(prediction.instances) == 7 and bool(prediction.instances.scores.isfinite().all())
    assert all(getattr(module, "momentum", 0.1) in (0.1, None) for module in network.modules())

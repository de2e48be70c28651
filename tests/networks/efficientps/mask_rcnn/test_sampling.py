"""What is drawn for the losses, against torchvision's sampler."""

import torch
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from efficientps.networks.efficientps.mask_rcnn.sampling import BalancedSampler
from tests.sweep import sweep


@sweep("seed", range(4))
@sweep("number, fraction", [(16, 0.25), (16, 0.5), (1000, 0.5)])
def test_draws_what_torchvision_draws(seed, number, fraction):
    """Oracle: torchvision's sampler from the same seed; images of any length, without positives, without negatives."""
    generator = torch.Generator().manual_seed(seed)
    labels = [torch.randint(-1, 4, (length,), generator=generator) for length in (60, 200)]
    labels += [torch.zeros(30), torch.ones(20), torch.full((10,), -1.0)]
    torch.manual_seed(seed)
    positive_masks, negative_masks = BalancedPositiveNegativeSampler(number, fraction)(labels)
    next_number = torch.rand(1)
    torch.manual_seed(seed)
    sample = BalancedSampler(number, fraction)(labels)
    assert torch.equal(torch.rand(1), next_number)
    positives, negatives = torch.cat(positive_masks).bool(), torch.cat(negative_masks).bool()
    assert torch.equal(sample.indices, (positives | negatives).nonzero().squeeze(1))
    assert torch.equal(sample.indices[sample.positives], positives.nonzero().squeeze(1))
    assert sample.counts == [int((p | n).sum()) for p, n in zip(positive_masks, negative_masks, strict=True)]
    assert sample.positive_counts == [int(mask.sum()) for mask in positive_masks]

"""A panoptic network of two convolutions, for tests of everything around a network."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy, interpolate

from efficientps.networks.network import PanopticNetwork
from efficientps.structures import IGNORE_INDEX, InstancePredictions, PanopticSegmentation, Prediction, Segment

BOX = (10, 20, 20, 28)
"""The one instance that is predicted: the first car of the hand-drawn scene, (x0, y0, x1, y1)."""


class TinyNetwork(PanopticNetwork):
    """Classifies pixels from their colours, and finds the same car in every image.

    Args:
        num_stuff: number of stuff classes.
        num_things: number of thing classes.
        width: channels between the two convolutions.
        dropout: share of the values between the two convolutions that training leaves out at random.
        frozen: whether all but the head stays as it is.
    """

    def __init__(self, num_stuff, num_things, *, width: int = 4, dropout: float = 0.0, frozen: bool = False):
        super().__init__()
        self.num_stuff, self.num_things = num_stuff, num_things
        self.backbone = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=4, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(dropout)
        )
        self.backbone.requires_grad_(not frozen)
        self.head = nn.Conv2d(width, num_stuff + num_things, 1)

    def logits(self, images):
        return interpolate(self.head(self.backbone(images.float() / 255)), size=images.shape[-2:])

    def loss(self, batch):
        loss_semantic = cross_entropy(self.logits(batch["images"]), batch["semantic"], ignore_index=IGNORE_INDEX)
        return {"loss_semantic": loss_semantic, "loss_weight": 1e-3 * self.head.weight.square().sum()}

    def predict(self, batch):
        predictions = []
        for logits, (height, width) in zip(self.logits(batch["images"]), batch["image_sizes"], strict=True):
            stuff = logits[: self.num_stuff, :height, :width].argmax(dim=0)
            segment_ids = (stuff + 1).to(torch.int32)
            segments = [Segment(int(i), int(i) - 1, is_thing=False) for i in segment_ids.unique()]
            box = torch.tensor([BOX], dtype=torch.float32, device=logits.device)
            instances = InstancePredictions(
                scores=torch.full((1,), 0.9),
                labels=torch.tensor([min(2, self.num_things - 1)]),
                boxes=box,
                mask_logits=torch.full((1, 28, 28), 5.0),
                mask_frames=box,
            )
            panoptic = PanopticSegmentation(segment_ids, segments)
            predictions.append(Prediction(panoptic, stuff.to(torch.uint8), instances))
        return predictions

"""An instance head in one file: it finds boxes, and leaves the pixels inside to the semantic head."""

import torch
from torch import nn
from torchvision.ops import batched_nms, clip_boxes_to_image, generalized_box_iou_loss

from efficientps.networks.efficientps import InstanceHead
from efficientps.networks.losses import focal_loss
from efficientps.structures import InstancePredictions


class BoxHead(InstanceHead):
    """Every place of P8 inside an object says its class and its box; the mask is the box."""

    score_thresh = 0.3

    def __init__(self, num_things: int, in_channels: int, *, channels: int = 64, detection_thresh: float = 0.05):
        super().__init__()
        self.tower = nn.Sequential(nn.Conv2d(in_channels, channels, 3, padding=1), nn.ReLU())
        self.classes = nn.Conv2d(channels, num_things, 1)
        self.sides = nn.Conv2d(channels, 4, 1)
        nn.init.constant_(self.classes.bias, -4.6)  # scores begin at 0.01
        self.detection_thresh = detection_thresh

    def forward(self, pyramid):
        x = self.tower(pyramid.p8)
        rows, columns = (torch.arange(n, device=x.device) * 8 + 4.0 for n in x.shape[-2:])
        places = torch.cartesian_prod(rows, columns).flip(1)  # (x, y)
        classes = self.classes(x).flatten(2).mT.float()
        sides = 8 * self.sides(x).flatten(2).mT.float().clamp(max=5).exp()
        return places, classes, torch.cat([places - sides[..., :2], places + sides[..., 2:]], dim=-1)

    def loss(self, pyramid, targets):
        places, classes, boxes = self(pyramid)
        wanted, box_loss = torch.zeros_like(classes), 0 * boxes.sum()  # connected, even without any object
        for image, target in enumerate(targets):
            for label, box in zip(target["labels"], target["boxes"], strict=True):
                inside = ((places > box[:2]) & (places < box[2:])).all(dim=1)
                wanted[image, inside, label] = 1
                predicted = boxes[image, inside]
                box_loss = box_loss + generalized_box_iou_loss(predicted, box.expand_as(predicted), reduction="sum")
        number = wanted.sum().clamp(min=1)
        return {"loss_class": focal_loss(classes, wanted) / number, "loss_box": box_loss / number}

    def predict(self, pyramid, image_sizes):
        _, classes, boxes = self(pyramid)
        return [self.select(*image) for image in zip(classes.sigmoid(), boxes, image_sizes, strict=True)]

    def select(self, scores, boxes, image_size):
        place, label = (scores > self.detection_thresh).nonzero().unbind(dim=1)
        scores, boxes = scores[place, label], clip_boxes_to_image(boxes[place], image_size)
        kept = batched_nms(boxes, scores, label, 0.5)[:100]
        mask_logits = boxes.new_full((len(kept), 1, 1), 2.0)  # one cell: the whole frame, which is the box
        return InstancePredictions(scores[kept], label[kept], boxes[kept], mask_logits, mask_frames=boxes[kept])

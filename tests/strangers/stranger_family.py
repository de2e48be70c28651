from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

from efficientps.networks import PanopticNetwork
from efficientps.networks.queries.boxes import enclosing_boxes
from efficientps.networks.queries.post_processing import panoptic_map, semantic_map
from efficientps.networks.queries.targets import segment_targets
from efficientps.structures import InstancePredictions, Prediction


class Mask2Former(PanopticNetwork):
    def __init__(self, num_stuff: int, num_things: int, *, embed_dim: int = 96, width: int = 256) -> None:
        super().__init__()
        self.num_stuff = num_stuff
        swin = SwinConfig(embed_dim=embed_dim, out_features=["stage1", "stage2", "stage3", "stage4"])
        widths = dict.fromkeys(("hidden_dim", "feature_size", "mask_feature_size"), width)
        config = Mask2FormerConfig(backbone_config=swin, num_labels=num_stuff + num_things, **widths)
        self.model = Mask2FormerForUniversalSegmentation(config)

    def backbones(self):
        return [self.model.model.pixel_level_module.encoder]

    def loss(self, batch):
        labels, _, masks = zip(*segment_targets(batch, self.num_stuff), strict=True)
        masks = [masks_of_image.float() for masks_of_image in masks]
        return {"loss": self.model(batch["images"] / 255 - 0.5, class_labels=labels, mask_labels=masks).loss.squeeze()}

    def predict(self, batch):
        out = self.model(batch["images"] / 255 - 0.5)
        queries = zip(out.class_queries_logits.softmax(-1), out.masks_queries_logits, batch["image_sizes"], strict=True)
        return [self.prediction(*query, tuple(batch["images"].shape[-2:])) for query in queries]

    def prediction(self, probs, masks, size, canvas):
        scores, ids = probs[:, :-1].max(dim=-1)
        sure, things = scores > 0.5 * scores.max(), ids >= self.num_stuff
        segments = (masks[sure], ids[sure].tolist(), scores[sure].tolist())
        panoptic = panoptic_map(*segments, canvas=canvas, image_size=size, num_stuff=self.num_stuff)
        frames = scores.new_tensor([[0, 0, canvas[1], canvas[0]]]).repeat(len(scores), 1)
        found = (scores, ids - self.num_stuff, enclosing_boxes(masks, size), masks, frames)
        return Prediction(panoptic, semantic_map(panoptic), InstancePredictions(*(values[things] for values in found)))

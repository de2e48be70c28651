"""Public weights in each of their layouts, in small files that are made here."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from efficientps.networks.detr import Detector
from efficientps.networks.detr.public_weights import to_own_keys
from efficientps.training.checkpoints.init_from import init_from
from tests.networks.detr.test_detector import LAYERS, NUM_STUFF, NUM_THINGS, QUERIES, own, reference
from tests.sweep import sweep

CHANNELS, HEADS, HIDDEN = 64, 8, 96


def authors_transformer():
    """The authors' transformer has the layers, and so the keys, of torch's own."""
    options = {"d_model": CHANNELS, "nhead": HEADS, "dim_feedforward": HIDDEN, "dropout": 0.0, "batch_first": True}
    encoder, decoder = nn.TransformerEncoderLayer(**options), nn.TransformerDecoderLayer(**options)
    transformer = nn.Module()
    transformer.encoder = nn.TransformerEncoder(encoder, 2, enable_nested_tensor=False)
    transformer.decoder = nn.TransformerDecoder(decoder, LAYERS, norm=nn.LayerNorm(CHANNELS))
    for parameter in transformer.parameters():
        nn.init.normal_(parameter, std=0.2)
    return transformer.eval()


def test_the_authors_transformer_computes_the_same():
    # Oracle: torch's transformer; without positions it is the authors'.
    torch.manual_seed(0)
    transformer = authors_transformer()
    state = {f"transformer.{key}": value for key, value in transformer.state_dict().items()}
    detector = Detector(8, 3, channels=CHANNELS, feed_forward=HIDDEN, encoder_layers=2, decoder_layers=LAYERS).eval()
    renamed = {key.removeprefix("detector."): value for key, value in to_own_keys(state).items()}
    missing, unexpected = detector.load_state_dict(renamed, strict=False)
    assert unexpected == []
    assert {key.split(".")[0] for key in missing} == {"input_projection", "queries", "class_head", "box_head"}
    tokens, queries = torch.randn(2, 6, CHANNELS), torch.randn(2, 4, CHANNELS)
    with torch.no_grad():
        memory = detector.encoder(inputs_embeds=tokens, spatial_position_embeddings=torch.zeros(()))[0]
        decoded = detector.decoder(inputs_embeds=queries, encoder_hidden_states=memory)[0]
        expected = transformer.encoder(tokens)
        torch.testing.assert_close(memory, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(decoded, transformer.decoder(queries, expected), rtol=1e-4, atol=1e-4)


AUTHORS_MASK_HEAD = {
    "conv1.conv": "lay1", "conv1.norm": "gn1", "conv2.conv": "lay2", "conv2.norm": "gn2",
    "fpn_stages.0.fpn_adapter": "adapter1", "fpn_stages.0.refine.conv": "lay3", "fpn_stages.0.refine.norm": "gn3",
    "fpn_stages.1.fpn_adapter": "adapter2", "fpn_stages.1.refine.conv": "lay4", "fpn_stages.1.refine.norm": "gn4",
    "fpn_stages.2.fpn_adapter": "adapter3", "fpn_stages.2.refine.conv": "lay5", "fpn_stages.2.refine.norm": "gn5",
    "output_conv": "out_lay",
}  # fmt: skip
"""Of transformers' names since version 5; facebookresearch/detr:models/segmentation.py."""


def as_published(state):
    """Give the state of transformers' modules the names of its files before version 5."""
    published = {}
    for key, value in state.items():
        if key.startswith("mask_head."):
            name, kind = key.removeprefix("mask_head.").rsplit(".", 1)
            key = f"mask_head.{AUTHORS_MASK_HEAD[name]}.{kind}"
        key = key.replace("bbox_attention.q_proj", "bbox_attention.q_linear")
        key = key.replace("bbox_attention.k_proj", "bbox_attention.k_linear")
        key = key.replace("model.backbone.model.", "model.backbone.conv_encoder.model.")
        key = key.replace(".o_proj.", ".out_proj.").replace(".mlp.fc", ".fc")
        published[key] = value
    return published


def as_authors(state):
    """Give it the authors' names, with queries, keys and values of an attention in one tensor."""
    authors, joint = {}, {}
    for key, value in as_published(state).items():
        key = key.removeprefix("detr.")
        if ".q_proj." in key or ".k_proj." in key or ".v_proj." in key:
            block, _, kind = key.partition("_proj.")
            joint.setdefault((block[:-1], kind), {})[block[-1]] = value
        else:
            authors[key] = value
    for (block, kind), parts in joint.items():
        authors[f"{block}in_proj_{kind}"] = torch.cat([parts[part] for part in "qkv"])
    renamed = {}
    for key, value in authors.items():
        for old, new in (
            ("model.backbone.conv_encoder.model.", "backbone.0.body."),
            ("model.input_projection.", "input_proj."),
            ("model.query_position_embeddings.", "query_embed."),
            ("class_labels_classifier.", "class_embed."),
            ("bbox_predictor.", "bbox_embed."),
            ("model.decoder.layernorm.", "transformer.decoder.norm."),
            ("model.encoder.", "transformer.encoder."),
            ("model.decoder.", "transformer.decoder."),
            (".fc1.", ".linear1."),
            (".fc2.", ".linear2."),
            ("encoder_attn.", "multihead_attn."),
            ("encoder_attn_layer_norm.", "norm2."),
            ("self_attn_layer_norm.", "norm1."),
            ("final_layer_norm.", "norm3." if ".decoder." in key else "norm2."),
        ):
            key = key.replace(old, new)
        is_mask = key.startswith(("mask_head.", "bbox_attention."))
        renamed[key if is_mask else f"detr.{key}"] = value
    return {"model": renamed}


@pytest.fixture(scope="module")
def state():
    return reference().state_dict()


LAYOUTS = {"modules": dict, "published": as_published, "authors": as_authors}


@sweep("layout", LAYOUTS.values())
def test_every_layout_is_read_whole(state, layout, tmp_path):
    # Oracle: the tensors of transformers' modules, one by one.
    torch.save(layout(state), tmp_path / "weights.pth")
    network = own(state)
    expected = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.fill_(7)
    line = init_from(network, tmp_path / "weights.pth")
    number = len(expected)
    assert f"{number} of {number} tensors loaded" in line
    assert "anew" not in line
    for key, value in network.state_dict().items():
        assert torch.equal(value, expected[key]), key


def test_the_authors_names_are_those_of_torch():
    # Oracle: torch's own modules, whose keys the authors' files have; so that the test's renaming is theirs.
    names = {key for key in as_authors(reference().state_dict())["model"] if key.startswith("detr.transformer.")}
    expected = {f"detr.transformer.{key}" for key in authors_transformer().state_dict()}
    assert names == expected


def test_safetensors(state, tmp_path):
    save_file({k: v.contiguous() for k, v in as_published(state).items()}, tmp_path / "model.safetensors")
    assert "anew" not in init_from(own(state), tmp_path / "model.safetensors")


def test_detectors_have_no_mask_head(state, tmp_path):
    detector = {key.removeprefix("detr."): value for key, value in state.items() if key.startswith("detr.")}
    torch.save(as_authors({f"detr.{key}": value for key, value in detector.items()}), tmp_path / "a.pth")
    torch.save(as_published(detector), tmp_path / "b.pth")
    for name in ("a.pth", "b.pth"):
        line = init_from(own(state), tmp_path / name)
        assert "mask_head 0 of 32" in line
        assert "32 not in the file ('mask_head." in line


def test_a_class_head_of_another_size_is_replaced_and_said_so(state, tmp_path):
    # COCO's public weights have 91 or 250 classes.
    public = dict(state)
    public["detr.class_labels_classifier.weight"] = torch.randn(92, 64)
    public["detr.class_labels_classifier.bias"] = torch.randn(92)
    torch.save(as_authors(public), tmp_path / "detr-r50.pth")
    network = own(state)
    before = network.detector.class_head.weight.clone()
    line = init_from(network, tmp_path / "detr-r50.pth")
    assert "2 of another shape, which begin anew ('detector.class_head.bias' and 1 more)" in line
    assert torch.equal(network.detector.class_head.weight, before)
    assert before.shape == (NUM_STUFF + NUM_THINGS + 1, 64)


def test_fewer_queries_than_the_network_has(state, tmp_path):
    # Oracle: the file's rows first, the network's own after them.
    torch.save({**state, "detr.model.query_position_embeddings.weight": torch.full((3, 64), 5.0)}, tmp_path / "a.pth")
    network = own(state)
    before = network.detector.queries.weight.clone()
    assert "anew" not in init_from(network, tmp_path / "a.pth")
    assert (network.detector.queries.weight[:3] == 5).all()
    assert torch.equal(network.detector.queries.weight[3:], before[3:])
    assert len(before) == QUERIES


def test_own_keys_stay():
    state = own(reference().state_dict()).state_dict()
    assert to_own_keys(state).keys() == state.keys()

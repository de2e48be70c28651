"""Checkpoints that say what they are: written by any training, and read as files that nobody trusts."""

import struct
import zipfile
from functools import partial
from time import process_time

import pytest
import torch

from benchmarks.memory import peak_bytes
from efficientps.backbones import ResNetBackbone
from efficientps.inference.building import ModelFileError, UntrustedClassError
from efficientps.inference.model_file import KEY, NotSelfDescribedError, SavedNetwork, read_model_file
from efficientps.networks.detr import Detector, DETRPanoptic
from efficientps.structures import Categories, Category, ImageBatch
from efficientps.training.module import PanopticModule
from tests.inference.networks import HEADS, NUM_STUFF, NUM_THINGS, ready_network
from tests.inference.networks import network as small_network
from tests.strangers.stranger_backbone import ConvNeXt
from tests.tiny_network import TinyNetwork

CATEGORIES = Categories(
    Category(id_ + 1, f"class {id_}", (id_, 2 * id_, 255), id_ >= NUM_STUFF) for id_ in range(NUM_STUFF + NUM_THINGS)
)
SMALL_DETECTOR = partial(
    Detector, num_queries=7, channels=32, num_heads=8, feed_forward=16, encoder_layers=1, decoder_layers=1
)
SMALL_DETR = partial(
    DETRPanoptic,
    backbone=partial(ResNetBackbone, variant="resnet10t", frozen_norms=False),
    detector=SMALL_DETECTOR,
    score_thresh=0.0,
)


def saved(path, network, **options):
    """Write a checkpoint of a network as a training does; return the module."""
    module = PanopticModule(network=network, categories=CATEGORIES, **options)
    module.eval_size = (64, 96)
    write(path, module)
    return module


def write(path, module, *, weights=None, **changes):
    """Write the checkpoint of a module, with more weights, and with parts of its description changed."""
    checkpoint = {"state_dict": module.state_dict() | (weights or {})}
    module.on_save_checkpoint(checkpoint)
    checkpoint[KEY] |= changes
    torch.save(checkpoint, path)


def everything(network):
    """All tensors and values of a network's predictions of two images of noise."""
    images = torch.randint(256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    sizes = [(64, 96), (50, 70)]
    batch = ImageBatch(images=images, image_sizes=sizes, original_sizes=[(91, 137), (50, 70)], image_ids=["a", "b"])
    with torch.no_grad():
        found = network.predict(batch)
    return [
        [p.panoptic.segment_ids, p.panoptic.segments, p.semantic, p.instances.scores, p.instances.mask_logits]
        for p in found
    ]


FAMILIES = {
    "mask_rcnn": lambda *_: ready_network("mask_rcnn"),
    "solov2": lambda *_: ready_network("solov2"),
    "detr": SMALL_DETR,
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_model_is_read_as_it_was_saved(family, channels_last, tmp_path):
    """Oracle: the predictions of the network that was saved, bit for bit."""
    module = saved(tmp_path / "a.ckpt", FAMILIES[family], channels_last=channels_last)
    model = read_model_file(tmp_path / "a.ckpt")
    expected, found = everything(module.network.eval()), everything(model.network)
    torch.testing.assert_close(
        [[v for v in image if isinstance(v, torch.Tensor)] for image in found],
        [[v for v in image if isinstance(v, torch.Tensor)] for image in expected],
        rtol=0,
        atol=0,
    )
    assert [image[1] for image in found] == [image[1] for image in expected]
    assert any(image[1] for image in expected)  # there is something to compare
    assert (model.categories, model.eval_size, model.network.training) == (CATEGORIES, (64, 96), False)


def test_what_depends_on_the_machine_of_the_training_stays_there(tmp_path):
    """The norms of ``compiled`` need a package that the reading machine may lack; here they are the default's."""
    options = {"norm_implementation": "eager", "activation_checkpointing": ["neck"]}
    saved(tmp_path / "a.ckpt", lambda *_: small_network("solov2", **options))
    network = read_model_file(tmp_path / "a.ckpt").network
    assert network.activation_checkpointing == frozenset()
    assert network.neck.outputs[0][-1].implementation == "in_place"


def test_classes_of_strangers_need_trust(tmp_path):
    saved(tmp_path / "a.ckpt", partial(TinyNetwork, width=5))
    with pytest.raises(UntrustedClassError, match=r"tests\.tiny_network\.TinyNetwork.*trust=\('tests',\)"):
        read_model_file(tmp_path / "a.ckpt")
    assert read_model_file(tmp_path / "a.ckpt", trust=["tests"]).network.head.in_channels == 5
    saved(tmp_path / "b.ckpt", _stranger(HEADS["mask_rcnn"]))
    with pytest.raises(UntrustedClassError, match="ConvNeXt"):
        read_model_file(tmp_path / "b.ckpt", trust=["tests.tiny_network"])
    read_model_file(tmp_path / "b.ckpt", trust=["tests.strangers.stranger_backbone"])


def _stranger(head):
    from efficientps.networks.efficientps import EfficientPS

    return partial(EfficientPS, backbone=ConvNeXt, instance_head=head)


def test_what_cannot_be_described_is_saved_and_said(tmp_path):
    network = partial(_stranger(HEADS["mask_rcnn"]), backbone=lambda: ConvNeXt())
    with pytest.warns(UserWarning, match="the argument backbone of EfficientPS is a lambda"):
        saved(tmp_path / "a.ckpt", network)
    with pytest.raises(NotSelfDescribedError, match="the argument backbone of EfficientPS is a lambda"):
        read_model_file(tmp_path / "a.ckpt", trust=["tests"])


def test_a_file_without_description_and_one_of_the_future(tmp_path):
    module = saved(tmp_path / "a.ckpt", SMALL_DETR)
    for new_format in (True, False):
        torch.save({"state_dict": module.state_dict()}, tmp_path / "b.ckpt", _use_new_zipfile_serialization=new_format)
        with pytest.raises(NotSelfDescribedError, match="does not say what network its weights are of"):
            read_model_file(tmp_path / "b.ckpt")
    write(tmp_path / "c.ckpt", module, format=2)
    with pytest.raises(ModelFileError, match=r"format 2, and this version of the package.*up to 1"):
        read_model_file(tmp_path / "c.ckpt")


def test_a_module_is_loaded_by_lightnings_name(tmp_path):
    module = saved(tmp_path / "a.ckpt", SMALL_DETR, channels_last=True)
    loaded = PanopticModule.load_from_checkpoint(tmp_path / "a.ckpt", batch_size=3)
    assert (loaded.categories, loaded.eval_size, loaded.batch_size) == (CATEGORIES, (64, 96), 3)
    assert (loaded.channels_last, loaded.training) == (True, True)
    torch.testing.assert_close(loaded.state_dict(), module.state_dict(), rtol=0, atol=0)
    write(tmp_path / "b.ckpt", loaded)  # and says of itself what the first said
    first, second = (torch.load(tmp_path / name, weights_only=True)[KEY] for name in ("a.ckpt", "b.ckpt"))
    assert first == second


def test_the_network_of_a_file_takes_no_other_classes(tmp_path):
    saved(tmp_path / "a.ckpt", SMALL_DETR)
    assert isinstance(SavedNetwork(NUM_STUFF, NUM_THINGS, path=str(tmp_path / "a.ckpt")), DETRPanoptic)
    with pytest.raises(ModelFileError, match="the data has 1 and 2"):
        SavedNetwork(1, 2, path=str(tmp_path / "a.ckpt"))


def described(class_path="efficientps.networks.detr.DETRPanoptic", **arguments):
    """A description of a network."""
    numbers = {"num_stuff": NUM_STUFF, "num_things": NUM_THINGS}
    return {"class_path": class_path, "init_args": numbers | arguments, "kind": "object"}


def factory(class_path, **arguments):
    return {"class_path": class_path, "init_args": arguments, "kind": "factory"}


def recursive():
    value = []
    value.append(value)
    return value


def bomb():
    """Nine levels of ten references each: little to store, 10^9 values to walk through."""
    value = [0]
    for _ in range(9):
        value = [value] * 10
    return value


CATEGORY = {"label_id": 1, "name": "a", "color": [0, 0, 0], "is_thing": False}
SYSTEM = {"class_path": "os.system", "init_args": {"command": "touch ran"}, "kind": "object"}
DETECTOR = "efficientps.networks.detr.Detector"
OF_PACKAGE = "efficientps.data.formats.export.PanopticWriter"
HOSTILE = [
    ({"network": SYSTEM}, r"the class os\.system.*nothing was imported.*trust=\('os',\)"),
    ({"network": described(backbone=SYSTEM)}, r"the class os\.system"),
    ({"network": described(backbone=[(SYSTEM,)])}, r"the class os\.system"),
    ({"network": described(backbone={"mapping": {"a": SYSTEM}})}, r"the class os\.system"),
    ({"network": factory("builtins.eval")}, r"the class builtins\.eval"),
    ({"network": described("on_disk.Network")}, r"the class on_disk\.Network.*nothing was imported"),
    ({"network": described("/srv/on_disk.Network")}, "the class /srv/on_disk.Network"),
    ({"network": described("efficientps_evil.networks.Network")}, "the class efficientps_evil"),
    ({"network": described(OF_PACKAGE, directory="here")}, "not of this package, so nothing was imported"),
    ({"network": described("efficientps.backbones.weights.Path")}, "is no part of a network"),
    ({"network": described("efficientps.backbones.weights.read_file", path="a")}, "is no part of a network"),
    ({"network": described("efficientps.networks.detr.Nothing")}, "there is no class"),
    ({"network": described("efficientps.networks.nowhere.Nothing")}, "cannot be built: No module named"),
    ({"network": described("efficientps.networks.detr.Detector")}, "cannot be built"),
    ({"network": factory("torch.nn.ReLU")}, "which is no network"),
    ({"network": described(backbone=recursive())}, "nested more than"),
    ({"network": described(backbone=bomb())}, "more than 20000 values"),
    ({"network": described(name="x" * 1_000_000)}, "a text of 1000000 characters"),
    ({"network": described("x" * 1_000_000)}, "is no path of a class"),
    ({"network": described(**{"x" * 2000: 1})}, "a key is no text"),
    ({"network": described(no_object_weight=1 << 1000)}, "the number a number of many digits"),
    ({"network": described() | {"init_args": {"num_stuff": 10**7}}}, "num_stuff is 10000000, and its classes have"),
    ({"network": described(detector=factory(DETECTOR, encoder_layers=10**6))}, "many more"),
    (
        {"network": described(detector=factory(DETECTOR, encoder_layers=1, feed_forward=10**7))},
        "many more",
    ),
    (
        {"network": described(backbone=factory("efficientps.backbones.TimmBackbone", name="hf-hub:timm/resnet10t"))},
        "cannot be built: timm cannot build",
    ),
    ({"network": described(surplus=1)}, "cannot be built.*surplus"),
    ({"network": None}, "it does not name a network"),
    ({"network": {"class_path": 3}}, "neither a class with arguments"),
    ({"network": described(match_costs=torch.zeros(3))}, "a value of the type Tensor"),
    ({"categories": [CATEGORY] * 10**5}, "100000 classes; a model has 1 to 255"),
    ({"categories": [CATEGORY | {"name": "x" * 10_000_000}]}, "bytes beside its tensors"),
    ({"categories": [CATEGORY] * 10**7}, "bytes beside its tensors; 1500000 are the most"),
    ({"categories": "road"}, "no list of classes"),
    ({"categories": [CATEGORY | {"name": "x" * 1_000_000}]}, "the name of a class is no text of at most"),
    ({"categories": [CATEGORY | {"color": [1, 2]}]}, "no colour of three numbers"),
    ({"categories": [CATEGORY, CATEGORY]}, "occurs twice"),
    ({"eval_size": [10**9, 10**9]}, "the evaluation size is"),
    ({"format": "new"}, "no number of its format"),
    ({"format": 1 << 1000}, "no number of its format"),
]


NORM = {"class_path": "torchvision.ops.FrozenBatchNorm2d", "init_args": {"num_features": 1 << 24}, "kind": "object"}
WIDE = {"network": described(detector=factory(DETECTOR, encoder_layers=1, feed_forward=10**7))}
DEEP = {"network": described(detector=factory(DETECTOR, channels=32, encoder_layers=1, box_layers=1 << 24))}
SPARSE = torch.sparse_coo_tensor(size=(10**9, 10**9), check_invariants=True)
HOSTILE_WEIGHTS = [
    ({}, {"network": described(backbone=[NORM] * 20)}, "many more parameters"),  # 5 GB of buffers
    ({}, DEEP, "many more parameters"),
    ({"network.x": torch.zeros(1).expand(10**12)}, WIDE, "many more parameters"),
    (dict.fromkeys([f"network.x{index}" for index in range(9000)], torch.zeros(10**5)), WIDE, "many more parameters"),
    ({"network.x": torch.empty(10**12, device="meta")}, WIDE, "many more parameters"),
    ({"network.x": SPARSE}, WIDE, "not tensors or plain types.*_rebuild_sparse_tensor"),
    ({"network.x": torch.zeros(1).expand(10**12)}, {}, 'do not fit the network.*Unexpected key.*"x"'),
]


def refuse(path, message):
    """Read a model file that must be refused in one sentence, in 2 seconds of computing and 500 MB; no file is made."""
    files = set(path.parent.iterdir())
    raised: list[str] = []

    def read():
        with pytest.raises(ValueError, match=message) as caught:
            read_model_file(path)
        raised.append(str(caught.value))

    begin = process_time()
    read()
    seconds = process_time() - begin  # without the measurement of memory, which takes as long again
    peak = peak_bytes(read, collect=False)
    assert seconds < 2, message
    assert peak is None or peak < 500e6, f"{message}: {peak / 1e6} MB"
    assert len(raised[0]) < 1000
    assert "\n" not in raised[0]
    assert set(path.parent.iterdir()) == files


@pytest.fixture
def victim(tmp_path, monkeypatch):
    """A folder with a module in it, in which a hostile file is read, and a training's module to write one of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "on_disk.py").write_text("open('ran', 'w')")
    module = PanopticModule(network=SMALL_DETR, categories=CATEGORIES)
    write(tmp_path / "a.ckpt", module)
    read_model_file(tmp_path / "a.ckpt")  # what is good is imported by now
    return module


def test_hostile_descriptions_are_refused(victim, tmp_path):
    """Oracles: the message of each; its time and memory; and the files of the folder, because nothing may run."""
    for changes, message in HOSTILE:
        write(tmp_path / "a.ckpt", victim, **changes)
        refuse(tmp_path / "a.ckpt", message)


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
def test_hostile_weights_are_refused(victim, tmp_path):
    """Oracles: as above. Weights that claim to be many would let the description have a network of any size."""
    for weights, changes, message in HOSTILE_WEIGHTS:
        write(tmp_path / "a.ckpt", victim, weights=weights, **changes)
        refuse(tmp_path / "a.ckpt", message)


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value


def same_hash():
    """Keys that all have the hash 0: a dictionary compares each with all before it."""
    keys = [b"\x8a\x0c" + ((2**61 - 1) * number).to_bytes(12, "little") + b"N" for number in range(1, 90_000)]
    return b"}(" + b"".join(keys) + b"u"


HUNDRED_MB = b"(J" + struct.pack("<i", 10**8) + b"t"
STREAMS = {
    "a function": (b"cos\nsystem\n" + text(b"touch ran") + b"\x85R", r"not tensors or plain types \(os system\)"),
    "deep": (b"(" * 700_000 + b"t" * 700_000, "nested more than 100 deep"),
    "wide": (b"]" * 1_400_000, "more than 340000 values and operations"),
    "deep key": (b"}N" + b"\x85" * 100_000 + b"Ns", "a call or a key of more than 100 values"),
    "keys of one hash": (same_hash(), "more than 200 objects with attributes and keys"),
    "memory": (b"c__builtin__\nbytearray\nq\0" + HUNDRED_MB + b"q\1R" + b"h\0h\1R" * 9, r"\(__builtin__ bytearray\)"),
    "a slow text": (b"c_codecs\nencode\n(" + text("\u4e01".encode() * 9) + text(b"punycode") + b"tR", "_codecs encode"),
    "a long name": (b"c" + b"a" * 1_400_000 + b"\nb\n", "a class in more than 200 characters"),
    "a lonely end": (b"t", "the list of its values breaks off"),
    "short of the limit": (b"]" * 339_000, "holds a list, not a checkpoint"),
}
"""Streams of at most 1.5 MB that take PyTorch's reader minutes, gigabytes or a crash, or the most that is accepted."""


@pytest.mark.parametrize(
    "stream", [pytest.param(name, marks=[pytest.mark.slow] if name.startswith("short") else []) for name in STREAMS]
)
def test_hostile_streams_are_refused(stream, victim, tmp_path):
    """Oracles: as above."""
    content, message = STREAMS[stream]
    rewrite(tmp_path / "a.ckpt", lambda parts: parts | {"a/data.pkl": b"\x80\x02" + content + b"."})
    refuse(tmp_path / "a.ckpt", message)


def test_what_the_user_lets_pytorch_read_is_read(victim, tmp_path):
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    torch.save(content | {"seen": set(range(1000))}, tmp_path / "a.ckpt")
    with pytest.raises(ModelFileError, match=r"not tensors or plain types \(__builtin__ set\)"):
        read_model_file(tmp_path / "a.ckpt")
    with torch.serialization.safe_globals([set]):
        read_model_file(tmp_path / "a.ckpt")


ARCHIVES = {
    "a part that unpacks to 100 MB": ("a/byteorder", bytes(10**8), "100000000 bytes beside its tensors"),
    "the same in another folder": ("b/byteorder", bytes(10**8), "100000000 bytes beside its tensors"),
    "two streams": ("a/DATA.pkl", b"\x80\x02N.", "its parts are not those of a file that PyTorch wrote"),
}


@pytest.mark.parametrize("archive", ARCHIVES)
def test_hostile_archives_are_refused(archive, victim, tmp_path):
    """Oracles: as above."""
    name, content, message = ARCHIVES[archive]
    rewrite(tmp_path / "a.ckpt", lambda parts: parts | {name: content})
    refuse(tmp_path / "a.ckpt", message)


def test_archives_with_many_parts_or_something_before_them_are_refused(victim, tmp_path):
    """PyTorch's reader takes the directory's positions as they are; ``zipfile`` moves them by what stands before."""
    whole = (tmp_path / "a.ckpt").read_bytes()
    (tmp_path / "a.ckpt").write_bytes(b"PK" + whole)
    refuse(tmp_path / "a.ckpt", "its parts are not those of a file that PyTorch wrote")
    (tmp_path / "a.ckpt").write_bytes(whole)
    rewrite(tmp_path / "a.ckpt", lambda parts: parts | dict.fromkeys([f"a/data/{i:060}" for i in range(15_000)], b""))
    refuse(tmp_path / "a.ckpt", "bytes beside its tensors; 1500000 are the most")


def rewrite(path, change):
    """Write the parts of a checkpoint again, changed; a long one is compressed."""
    with zipfile.ZipFile(path) as archive:
        parts = {part.filename: archive.read(part) for part in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in change(parts).items():
            archive.writestr(name, part, zipfile.ZIP_DEFLATED if len(part) > 10**7 else zipfile.ZIP_STORED, 1)

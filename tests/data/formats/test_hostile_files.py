"""Files made to do harm: each is refused in one sentence, quickly, with little memory, and without running anything."""

import ast
import json
import os
import resource
import struct
import sys
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientps.data.formats.coco_json import read_panoptic_json
from efficientps.data.formats.id_map import read_id_map
from efficientps.data.formats.image_file import MAX_FILE_BYTES, read_image
from efficientps.data.sources.coco_panoptic import CocoPanoptic
from efficientps.data.sources.image_folder import ImageFolder
from efficientps.structures.categories import Categories, Category
from tests.sweep import sweep

ROOT = Path(__file__).parents[3]
TABLE = Categories([Category(7, "road", (128, 64, 128), False), Category(26, "car", (0, 0, 142), True)])
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *, pixels=b"", depth=8, color=2, extra=b""):
    """A PNG that claims a size, whatever it holds."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return SIGNATURE + header + extra + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def bmp(width, height):
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 2835, 2835, 0, 0)
    return struct.pack("<2sIHHI", b"BM", 1000, 0, 0, 54) + header + bytes(100)


def tiff(width, height, *, strip=8):
    """One strip of uncompressed grey that lies at an offset."""
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, 1, strip), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 2**32 - 1)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 8)  # the next directory is this


def jpeg(width, height):
    Image.new("RGB", (16, 16)).save(path := Path(os.environ["HOSTILE"]) / "whole.jpg")
    whole = path.read_bytes()
    place = whole.index(b"\xff\xc0") + 5
    return whole[:place] + struct.pack(">HH", height, width) + whole[place + 4 :]


TEXT_BOMB = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**27)))
PROFILE_BOMB = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**27)))
IMAGES = {
    "empty": lambda: b"",
    "signature alone": lambda: SIGNATURE,
    "text": lambda: b"#!/bin/sh\ntouch ran\n",
    "png of 10 gigapixels": lambda: png(100_000, 100_000),
    "png of 4 billion a side": lambda: png(2**32 - 1, 2**32 - 1),
    "png of 2 billion a side": lambda: png(2**31 - 1, 2**31 - 1),
    "png just above the limit": lambda: png(2**14, 2**13 + 1),
    "png of one endless row": lambda: png(2**26, 1),
    "png of one endless column": lambda: png(1, 2**26),
    "png without pixels": lambda: png(0, 0),
    "png of no width": lambda: png(0, 5),
    "png without its data": lambda: png(4000, 4000),
    "png of an unknown colour type": lambda: png(4, 4, color=5),
    "png of an unknown depth": lambda: png(4, 4, depth=3),
    "png with a text bomb": lambda: png(4, 4, extra=TEXT_BOMB, pixels=bytes(52)),
    "png with many text bombs": lambda: png(4, 4, extra=TEXT_BOMB * 50, pixels=bytes(52)),
    "png with a profile bomb": lambda: png(4, 4, extra=PROFILE_BOMB, pixels=bytes(52)),
    "png with a chunk of 4 GB": lambda: SIGNATURE + struct.pack(">I4s", 2**32 - 1, b"IDAT") + bytes(50),
    "png with a header of 2 GB": lambda: SIGNATURE + struct.pack(">I4s", 2**31 - 1, b"IHDR") + bytes(50),
    "png with a wrong filter": lambda: png(4, 4, pixels=b"\xff" * 52),
    "png without its end": lambda: png(4, 4, pixels=bytes(52))[:-12],
    "bmp of 10 gigapixels": lambda: bmp(100_000, 100_000),
    "bmp of negative size": lambda: bmp(-5, -5),
    "bmp without its data": lambda: bmp(4000, 4000),
    "tiff of 10 gigapixels": lambda: tiff(100_000, 100_000),
    "tiff whose strip is elsewhere": lambda: tiff(4000, 4000, strip=2**32 - 1),
    "tiff in a circle": lambda: tiff(4000, 4000),
    "jpeg of 4 gigapixels": lambda: jpeg(65_535, 65_535),
    "jpeg without its data": lambda: jpeg(9_000, 9_000)[:-300],
    "ppm of 10 gigapixels": lambda: b"P6 100000 100000 255\n" + bytes(100),
    "ppm of endless digits": lambda: b"P6 " + b"9" * 10_000 + b" 4 255\n",
    "ppm in letters": lambda: b"P3 4 4 255\n" + b"1 " * 5 + b"x" * 100,
    "ppm without its data": lambda: b"P6 8000 8000 255\n",
    "webp cut off": lambda: b"RIFF\xff\xff\xff\x7fWEBPVP8X\n\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff",
    "eps that runs a program": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch ran) (r) file\n",
    "gif": lambda: b"GIF89a\xff\xff\xff\xff\0\0\0;",
    "svg": lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
}


@pytest.fixture(scope="module", autouse=True)
def room_for_whole_files(tmp_path_factory):
    os.environ["HOSTILE"] = str(tmp_path_factory.mktemp("whole"))
    yield
    del os.environ["HOSTILE"]


@pytest.fixture(autouse=True)
def little_memory():
    """Fail where memory grew by more than 300 MB: 81 million pixels without data take that, and no bomb does."""
    with suppress(OSError):  # where there is no such file, earlier tests may have set a higher peak
        Path("/proc/self/clear_refs").write_text("5")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < 300e6


@pytest.mark.timeout(20)
@sweep("content", IMAGES.values())
def test_hostile_images(tmp_path, content):
    """Oracle: none of the files is an image, or none that may be read; the message is one line with the name."""
    path = tmp_path / "a.png"
    path.write_bytes(content())
    for read in (read_image, read_id_map):
        with pytest.raises(ValueError) as caught:
            read(path)
        message = str(caught.value)
        assert f"'{path}' " in message and message.endswith(".") and message.isprintable() and len(message) < 500
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@sweep("mode", ["L", "LA", "P", "1", "I;16"])
def test_maps_of_other_pixels(tmp_path, mode):
    Image.new(mode, (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png' has '.*' pixels; segment ids need RGB pixels"):
        read_id_map(tmp_path / "a.png")


@pytest.mark.timeout(20)
def test_what_is_called_an_image_and_is_no_file(tmp_path):
    """A folder, a pipe that nobody writes to, a device that never ends, links in a circle and to nowhere."""
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "circle.png").symlink_to(tmp_path / "circle.png")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone.png")
    reasons = {
        "folder": "is not a regular file",
        "pipe": "is not a regular file",
        "device": "is not a regular file",
        "circle": "cannot be decoded",
        "nowhere": "does not exist",
    }
    for name, reason in reasons.items():
        for read in (read_image, read_id_map):
            with pytest.raises((ValueError, FileNotFoundError), match=rf"{name}\.png' {reason}"):
                read(tmp_path / f"{name}.png")
    for name in ("folder", "pipe"):
        with pytest.raises(ValueError, match="is not a regular file"):
            read_panoptic_json(tmp_path / f"{name}.png")
    dataset = ImageFolder(path=tmp_path)
    assert [entry.image_id for entry in dataset.entries] == ["circle", "device", "nowhere", "pipe"]
    for index in range(4):
        with pytest.raises((ValueError, FileNotFoundError)):
            dataset[index]


@sweep("name", ["a" * 300, "a/" * 3000, "\0", "\ud800"])
def test_names_that_no_disk_holds(tmp_path, name):
    for read in (read_image, read_id_map):
        with pytest.raises((ValueError, FileNotFoundError)):
            read(f"{tmp_path}/{name}.png")


@pytest.mark.timeout(20)
def test_a_file_with_a_hole_of_terabytes(tmp_path):
    """Oracle: it takes no room on the disk, and reading it would never end."""
    path = tmp_path / "a.png"
    path.write_bytes(png(4, 4, pixels=bytes(52)))
    os.truncate(path, 2**40)
    for read in (read_image, read_id_map):
        with pytest.raises(ValueError, match=rf"has 1099511627776 bytes where at most {MAX_FILE_BYTES} are read"):
            read(path)
    with pytest.raises(ValueError, match="has 1099511627776 bytes"):
        read_panoptic_json(path)


def annotation(segment):
    return {"annotations": [{"image_id": "a", "file_name": "a.png", "segments_info": [segment]}]}


def raw(field, value):
    """JSON of one segment in which a field has a value that Python's writer may not write."""
    return json.dumps(annotation({"id": 1, "category_id": 7, field: "@"})).replace('"@"', value)


DOCUMENTS = {
    "NaN": raw("area", "NaN"),
    "infinity": raw("area", "-Infinity"),
    "1e400": raw("area", "1e400"),
    "nested lists": raw("area", "[" * 900 + "]" * 900),
    "too deeply nested lists": raw("area", "[" * 200_000 + "]" * 200_000),
    "too deeply nested objects": '{"a":' * 200_000,
    "text for a number": raw("id", '"1"'),
    "a negative id": raw("id", "-1"),
    "an id of 4,000 digits": raw("id", "9" * 4000),
    "an id of a million digits": raw("id", "9" * 1_000_000),
    "an id that is no integer": raw("id", "1.0"),
    "a list for an id": raw("id", "[1]"),
    "a truth for an id": raw("id", "true"),
    "a list for a crowd": raw("iscrowd", "[[0]]"),
    "an object for an area": raw("area", '{"a": 1}'),
    "an area of 4,000 digits": raw("area", "9" * 4000),
    "an id twice in an object": raw("id", '1, "id": 2'),
    "a name twice among many": "{" + ",".join(f'"{name}":1' for name in [*range(200_000), 7]) + "}",
    "an object for the annotations": '{"annotations": {"a": 1}}',
    "text for the annotations": '{"annotations": "aaaa"}',
    "a number": "1",
    "nothing": "",
    "null": "null",
    "zero bytes": "\0" * 1000,
    "a half": raw("id", "1")[:40],
    "a control character": '{"a": "\n"}',
    "a long text for a number": raw("id", '"' + "a" * 10**6 + '"'),
    "a long unknown category": raw("category_id", "9" * 30),
}


@pytest.mark.timeout(20)
@sweep("document", DOCUMENTS.values())
def test_hostile_json(tmp_path, document):
    """Oracle: no document is of the format; the message is one line with the name."""
    path = tmp_path / "a.json"
    path.write_text(document)
    with pytest.raises(ValueError) as caught:
        read_panoptic_json(path, TABLE, require_images=False)
    message = str(caught.value)
    assert str(path) in message and message.endswith(".") and message.isprintable() and len(message) < 500


NUMBERS = [-1, 0, 1, 7, 1.5, -0.5, 1e300, 2**31, 2**63, 10**400, float("nan"), float("inf")]
TEXTS = ["", "a", "1", "../a", "a/b", "\0", "a" * 10_000]
VALUES = [None, True, False, *NUMBERS, *TEXTS, [], [[]], [0], {}, {"a": 1}]
ACCEPTED = {
    "images": [],
    "annotations": [],
    "categories": [[]],
    "images.id": ["a"],
    "images.file_name": TEXTS[:-1],  # the data set judges it, after its own naming rule
    "images.height": [1, 7],
    "images.width": [1, 7],
    "annotations.image_id": ["a"],
    "annotations.file_name": ["a", "1", "a/b"],
    "annotations.segments_info": [[]],
    "segments.id": [1, 7],
    "segments.category_id": [7],
    "segments.iscrowd": [True, False, 0, 1],
    "segments.area": [None, 0, 1, 7, 1.5, 2**31],
    "categories.id": [-1, 0, 1, 7, 2**31],
    "categories.name": [],
}
"""The values of each field that the format allows, or the reader need not mind."""


@sweep("field, accepted", ACCEPTED.items())
def test_every_field_with_every_value(tmp_path, field, accepted):
    """Oracle: the table above. What is not accepted is refused in one line with the name of the file."""
    outcome = []
    for value in VALUES:
        segment = {"id": 1, "category_id": 7, "iscrowd": 0, "area": 5}
        document = annotation(segment)
        document["images"] = [{"id": "a", "file_name": "a.jpg", "height": 4, "width": 6}]
        document["categories"] = [{"id": 7, "name": "road"}]
        parts = {name: entries[0] for name, entries in document.items()} | {"segments": segment}
        part, _, key = field.partition(".")
        (parts[part] if key else document)[key or part] = value
        (tmp_path / "a.json").write_text(json.dumps(document))
        try:
            read_panoptic_json(tmp_path / "a.json", TABLE)
            outcome.append(value)
        except ValueError as error:
            assert "a.json'" in str(error) and str(error).isprintable() and len(str(error)) < 500
    allowed = {repr(value) for value in accepted}
    assert [repr(value) for value in outcome] == [repr(value) for value in VALUES if repr(value) in allowed]


def test_a_harmless_document_is_read(tmp_path):
    """What the hostile ones were made from is not refused for another reason."""
    (tmp_path / "a.json").write_text(raw("area", "1"))
    assert len(read_panoptic_json(tmp_path / "a.json", TABLE, require_images=False)) == 1
    (tmp_path / "a.png").write_bytes(png(4, 4, pixels=bytes(4 * 13)))
    assert read_image(tmp_path / "a.png").shape == (3, 4, 4) and not read_id_map(tmp_path / "a.png").any()


def test_an_image_beside_the_data_stays_unread(tmp_path, write_panoptic_folder):
    """Oracle: the file is there and readable; only its name leads to it from outside."""
    image = {"id": "a", "file_name": "../secret.png", "height": 1, "width": 1}
    arguments = write_panoptic_folder(tmp_path, ids=[[7]], segments=[{"id": 7, "category_id": 7}], images=[image])
    Image.new("RGB", (1, 1)).save(tmp_path / "secret.png")
    with pytest.raises(ValueError, match=r"names the file '\.\./secret\.png', which is not a relative path inside"):
        CocoPanoptic(**arguments, categories=TABLE)


@pytest.mark.timeout(60)
def test_mutated_images_and_maps(tmp_path):
    """Oracle: 300 random changes of a PNG, which its checksums all reveal; and no other error than the one sentence."""
    rng = np.random.default_rng(0)
    ids = np.repeat(rng.integers(0, 40_000, (12, 6, 1)), 4, axis=1)
    Image.fromarray(np.concatenate([ids % 256, ids // 256, ids // 65536], axis=2).astype(np.uint8)).save(
        tmp_path / "w.png"
    )
    whole = np.frombuffer((tmp_path / "w.png").read_bytes(), dtype=np.uint8)
    for _ in range(300):
        changed = whole.copy()
        places = rng.integers(0, len(whole), rng.integers(1, 5))
        changed[places] ^= rng.integers(1, 256, len(places), dtype=np.uint8)
        content = changed.tobytes()
        if (changed == whole).all():
            continue
        (tmp_path / "a.png").write_bytes(content)
        for read in (read_image, read_id_map):
            with pytest.raises(ValueError, match=r"a\.png' ") as caught:
                read(tmp_path / "a.png")
            assert str(caught.value).isprintable()


SOURCES = [
    *(ROOT / "efficientps").rglob("*.py"),
    *(ROOT / "scripts").glob("*.py"),
    *(ROOT / "datasets").glob("*.py"),
    ROOT / "train_net.py",
]
FORBIDDEN = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads", "shelve.open"),
    *("joblib.load", "dill.load", "dill.loads", "cloudpickle.load", "cloudpickle.loads", "pandas.read_pickle"),
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load", "yaml.full_load_all"),
    *("torch.hub.load", "torch.jit.load", "torch.serialization.load", "torch.package.PackageImporter"),
}
LOADERS = (
    *("load_from_checkpoint", "load_state_dict_from_url"),
    *("trainer.fit", "trainer.validate", "trainer.test", "trainer.predict"),
)
"""What else takes ``weights_only``, by the end of its name."""


def dangers(source):
    """Calls and imports of a program that turn a file into code, or load one without looking at it."""
    tree = ast.parse(source)
    full = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            full |= {alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            full |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    found = [name for name in full.values() if name in FORBIDDEN]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        first, _, rest = ast.unparse(node.func).partition(".")
        name = full.get(first, first) + (f".{rest}" if rest else "")
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        loads_weights = name == "torch.load" or name.endswith(LOADERS)
        unsafe = (
            name in FORBIDDEN
            or (loads_weights and given.get("weights_only") != "True")
            or (name in ("numpy.load", "np.load") and given.get("allow_pickle", "False") != "False")
            or (name.startswith("subprocess.") and given.get("shell", "False") != "False")
        )
        if unsafe:
            found.append(name)
    return found


@sweep(
    "line",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "from torch import load as read\nread(path)",
        "import yaml as y\ny.load(file, Loader=y.Loader)",
        "yaml.unsafe_load(file)",
        "from pickle import loads\nloads(data)",
        "pickle.load(file)",
        "eval(text)",
        "exec(text)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(text, shell=True)",
        "self.trainer.fit(model, ckpt_path=path)",
    ],
)
def test_the_search_for_dangers_finds_them(line):
    assert dangers(line)


def test_nothing_in_the_project_turns_a_file_into_code():
    """Oracle: the names of Python's, torch's and yaml's own warnings; the search is tested above."""
    assert len(SOURCES) > 50
    assert not dangers("network.eval(); yaml.safe_load(text); torch.load(path, weights_only=True)")
    assert {str(path): found for path in SOURCES if (found := dangers(path.read_text()))} == {}

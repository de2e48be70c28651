import numpy as np
import pytest
from PIL import Image

from efficientps.data.loading.collate import collate
from efficientps.data.sources.image_folder import ImageFolder


def save(path, h=5, w=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (h, w, 3), dtype=np.uint8)).save(path)
    return path


def ids(dataset):
    return [entry.image_id for entry in dataset.entries]


def test_a_single_image_of_odd_size(tmp_path):
    """Oracle: hand-worked; a canvas of multiples of 32, and no map."""
    dataset = ImageFolder(path=save(tmp_path / "street.jpg", 333, 517), size=(166, 1000))
    (sample,) = list(dataset)
    assert sample["image_id"] == "street" and sample["original_size"] == (333, 517)
    assert tuple(sample["image"].shape) == (3, 166, 258)
    batch = collate([sample])
    assert tuple(batch["images"].shape) == (1, 3, 192, 288)
    assert batch.keys() == {"images", "image_sizes", "original_sizes", "image_ids", "file_names"}


def test_folders_are_read_recursively_in_order(tmp_path):
    for name in ("b.PNG", "a.jpg", "sub/c.webp", "sub/deep/a.bmp"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    dataset = ImageFolder(path=tmp_path)
    assert ids(dataset) == ["a", "b", "sub_c", "sub_deep_a"] and len(dataset) == 4
    assert all(tuple(dataset[index]["image"].shape) == (3, 5, 7) for index in range(4))


def test_linked_folders_are_followed(tmp_path):
    save(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "city").symlink_to(tmp_path / "elsewhere")
    assert ids(ImageFolder(path=tmp_path / "images")) == ["city_a"]


def test_cityscapes_images_keep_their_ids(tmp_path):
    save(tmp_path / "munster" / "munster_000000_000019_leftImg8bit.png")
    assert ids(ImageFolder(path=tmp_path)) == ["munster_000000_000019"]


def test_images_that_differ_in_their_extension_have_different_ids(tmp_path):
    for name in ("a.png", "a.jpg", "b.png"):
        save(tmp_path / name)
    assert ids(ImageFolder(path=tmp_path)) == ["a_jpg", "a_png", "b"]


def test_every_image_has_an_id_of_its_own_that_a_file_can_have(tmp_path):
    """Oracle: by hand; also for names that a disk may take for one, and for names that are too long for an output."""
    names = ["A.png", "B.JFIF", "a.png", "a/b.png", "a_b.png", "e\u0301.png", "x\ny.jpg", "\u00e9.png"]
    deep = f"{'d' * 120}/{'d' * 120}.png"
    for name in [*names, deep]:
        save(tmp_path / name) if not name.endswith("JFIF") else save(tmp_path / "b.jpg").rename(tmp_path / name)
    dataset = ImageFolder(path=tmp_path)
    assert sorted(entry.file_name for entry in dataset.entries) == sorted([*names, deep])
    found = dict(zip([entry.file_name for entry in dataset.entries], ids(dataset), strict=True))
    assert [found[name] for name in names[:5]] == ["A_png", "B", "a_png_2", "a_b_png", "a_b_png_2"]
    assert found["x\ny.jpg"] == "x_y" and len(found[deep]) == 180
    assert len({image_id.casefold() for image_id in found.values()}) == len(names) + 1
    assert all(tuple(dataset[index]["image"].shape) == (3, 5, 7) for index in range(len(dataset)))


def test_what_a_folder_holds_besides_images_is_listed(tmp_path):
    """Oracle: by hand; macOS writes a ._ file beside each, and phones write HEIC."""
    save(tmp_path / "a.png")
    for name in ("._a.png", ".cache/b.png", "c.heic", "sub/d.HEIC", "e.avif", "f.mp4", "g.txt", "README"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    dataset = ImageFolder(path=tmp_path)
    assert ids(dataset) == ["a"]
    left_out = {(problem.kind.rpartition(" ")[2], problem.where) for problem in dataset.left_out}
    assert left_out == {("(.heic)", "c.heic"), ("(.heic)", "sub/d.HEIC"), ("(.avif)", "e.avif")}
    assert {problem.where for problem in dataset.skipped} == {"._a.png", ".cache/", "f.mp4", "g.txt", "README"}


def test_nothing_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither an image nor a folder at '.*nowhere'"):
        ImageFolder(path=tmp_path / "nowhere")


def test_a_folder_without_images_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("not an image")
    with pytest.raises(FileNotFoundError, match=r"holds no image; files that end in \.png, \.jpg"):
        ImageFolder(path=tmp_path)


def test_a_damaged_image_is_named(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(ValueError, match=r"a\.png' is not an image file"):
        ImageFolder(path=tmp_path)[0]

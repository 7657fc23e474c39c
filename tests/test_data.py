import itertools
import pickle
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import TINY, make_folder
from cyclegan import DataConfig, InputError, ModelConfig, train
from cyclegan.data.dataset import Batch, UnpairedDataset
from cyclegan.data.domains import find_folders
from cyclegan.data.image_folder import scan_folder
from cyclegan.data.loader import batches
from cyclegan.data.splits import split_held_out
from cyclegan.images.codecs import write_image
from cyclegan.images.file_list import list_images
from cyclegan.images.formats import ImageFormat
from cyclegan.images.identical import find_identical, sizes_of
from cyclegan.images.tensors import to_tensor

MODEL = ModelConfig(discriminator_layers=1)
DATA = DataConfig(crop_size=16, load_size=18)


def dataset(a, b, data=DATA, batch_size=2, seed=0, cache_bytes=0):
    scanned = [scan_folder(folder, 3, None, data) for folder in (a, b)]
    return UnpairedDataset(*scanned, data, MODEL, batch_size, seed, cache_bytes=cache_bytes)


def test_a_batch_depends_on_seed_and_step_alone(folders):
    first, second = dataset(*folders), dataset(*folders, cache_bytes=2**20)
    for step in (7, 0, 7, 3):  # in any order, cached or not
        one, two = first[step], second[step]
        assert torch.equal(one.a, two.a)
        assert torch.equal(one.b, two.b)
    assert not torch.equal(first[7].a, first[8].a)
    assert not torch.equal(first[7].a, dataset(*folders, seed=1)[7].a)


def test_slots_of_a_batch_do_not_depend_on_how_it_is_cut_up(folders):
    data = DataConfig(crop_size=16, load_size=16, flip=False)
    whole, single = dataset(*folders, data, batch_size=4), dataset(*folders, data, batch_size=1)
    for step in range(3):
        assert torch.equal(whole[step].a, torch.cat([single[4 * step + slot].a for slot in range(4)]))


def test_every_image_comes_once_in_each_pass(tmp_path):
    for domain in "ab":
        (tmp_path / domain).mkdir()
        for value in range(7 if domain == "a" else 4):
            Image.new("RGB", (16, 16), (value, 0, ord(domain))).save(tmp_path / domain / f"{value}.png")
    items = dataset(tmp_path / "a", tmp_path / "b", DataConfig(crop_size=16, load_size=16), batch_size=1)
    seen = [round((items[step].a[0, 0, 0, 0].item() + 1) * 127.5) for step in range(21)]
    for start in (0, 7, 14):
        assert sorted(seen[start : start + 7]) == list(range(7))
    assert seen[:7] != seen[7:14]
    assert items.steps_per_epoch == 7
    pairs = {(step % 7, round((items[step].b[0, 0, 0, 0].item() + 1) * 127.5)) for step in range(100)}
    assert len(pairs) > 20  # the domains are shuffled independently


@pytest.mark.slow
def test_loading_processes_change_nothing(folders):
    items = dataset(*folders, cache_bytes=2**20)
    plain, spawned = batches(items, 3, 0), batches(items, 3, 2)
    for _ in range(5):
        one, two = next(plain), next(spawned)
        assert torch.equal(one.a, two.a)
        assert torch.equal(one.b, two.b)


def test_the_dataset_can_be_sent_to_a_spawned_process(folders):
    items = dataset(*folders)
    assert torch.equal(pickle.loads(pickle.dumps(items))[5].b, items[5].b)


@pytest.mark.parametrize(
    ("preprocess", "expected"),
    # Images are 24 wide and 20 high; multiples of 4 are what the generator takes.
    [
        ("resize-and-crop", (16, 16)),
        ("crop", (16, 16)),
        ("scale-width", (16, 20)),  # 18 wide, 15 high, padded
        ("scale-width-and-crop", None),
        ("scale-short-side", (20, 24)),  # 18 high, 22 wide, padded
        ("scale-short-side-and-crop", (16, 16)),
        ("none", (20, 24)),
    ],
)
def test_preprocessing_brings_images_to_size(folders, preprocess, expected):
    data = DataConfig(preprocess=preprocess, crop_size=16, load_size=18)
    if expected is None:  # 15 pixels high after scaling
        with pytest.raises(InputError, match=r"24x20 pixels \(18x15 after scale-width-and-crop\).*crop of 16"):
            dataset(*folders, data)
    else:
        assert dataset(*folders, data, batch_size=1)[0].a.shape == (1, 3, *expected)


def test_crops_are_windows_of_the_image_and_flips_mirror_them(tmp_path):
    ramp = np.zeros((20, 20, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(20)[None], np.arange(20)[:, None]
    for domain in "ab":
        (tmp_path / domain).mkdir()
        Image.fromarray(ramp).save(tmp_path / domain / "x.png")
        Image.fromarray(ramp + 1 if domain == "b" else ramp).save(tmp_path / domain / "y.png")
    items = dataset(tmp_path / "a", tmp_path / "b", DataConfig(preprocess="crop", crop_size=16), batch_size=1)
    corners, mirrored = set(), set()
    for step in range(60):
        image = ((items[step].a[0] + 1) * 127.5).round().int()
        steps = image[0, 0].diff()
        assert (steps == 1).all() or (steps == -1).all()
        mirrored.add(steps[0].item())
        corners.add((image[0, 0].min().item(), image[1, 0, 0].item()))
    assert mirrored == {1, -1}
    assert len(corners) > 15
    assert {value for corner in corners for value in corner} == set(range(5))


def test_one_root_is_found_in_its_usual_layouts(tmp_path, folders):
    for layout in (("trainA", "trainB", "testA", "testB"), ("train/A", "train/B", "test/A", "test/B")):
        root = tmp_path / f"root{len(layout[0])}"
        for name, source in zip(layout, folders * 2, strict=True):
            shutil.copytree(source, root / name)
        found = find_folders(root)
        assert (found.a, found.b, found.test_a, found.test_b) == tuple(root / name for name in layout)


def test_folders_that_cannot_work_are_refused_before_training(tmp_path, folders):
    a, b = folders
    with pytest.raises(InputError, match="There is no folder"):
        find_folders(tmp_path / "nowhere", b)
    with pytest.raises(InputError, match="neither trainA and trainB"):
        find_folders(a)
    with pytest.raises(InputError, match="two different ones"):
        find_folders(a, tmp_path / "a" / ".." / "a")
    with pytest.raises(InputError, match="inside the other"):
        find_folders(tmp_path, b)
    with pytest.raises(InputError, match="hold the same images"):
        find_folders(a, shutil.copytree(a, tmp_path / "copy"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no readable images"):
        scan_folder(tmp_path / "empty", 3, None, DATA)
    with pytest.raises(InputError, match=r"24x20 pixels.*crop of 64"):
        scan_folder(a, 3, None, DataConfig(preprocess="crop", crop_size=64))
    with pytest.raises(InputError, match="takes 2"):
        scan_folder(a, 2, None, DATA)


def test_mixed_types_are_refused(tmp_path):
    make_folder(tmp_path / "x", 1)
    write_image(tmp_path / "x" / "deep.png", np.zeros((20, 20, 3), np.uint16))
    with pytest.raises(InputError, match="mixes types"):
        scan_folder(tmp_path / "x", 3, (0, 65535), DATA)


def test_a_few_files_of_another_type_are_passed_over_and_their_values_do_not_count(tmp_path):
    (tmp_path / "x").mkdir()
    for index in range(3):
        write_image(tmp_path / "x" / f"{index}.tif", np.full((20, 20, 1), 100 + index, np.uint16))
    np.save(tmp_path / "x" / "float.npy", np.full((20, 20, 1), 1e6, np.float32))
    write_image(tmp_path / "x" / "picture.png", np.zeros((20, 20, 1), np.uint8))
    found = scan_folder(tmp_path / "x", 1, None, DATA)
    assert len(found) == len(found.keys) == len(found.num_bytes) == 3
    assert (found.image_format.dtype, found.image_format.low, found.image_format.high) == ("uint16", 100, 102)
    assert [(path.name, reason) for path, reason in found.unreadable] == [
        ("float.npy", "float32, where most images are uint16"),
        ("picture.png", "uint8, where most images are uint16"),
    ]


def test_images_smaller_than_the_crop_are_passed_over_and_named(tmp_path):
    folder = make_folder(tmp_path / "x", 4)
    Image.new("RGB", (12, 30)).save(folder / "small.png")
    found = scan_folder(folder, 3, None, DataConfig(preprocess="crop", crop_size=16))
    assert len(found) == 4
    assert found.unreadable == ((folder / "small.png", "12x30 pixels (12x30 after crop), smaller than the crop of 16"),)
    # With so many images wanted, the next one takes its place.
    found = scan_folder(folder, 3, None, DataConfig(preprocess="crop", crop_size=16, max_images=4))
    assert len(found) == 4


def test_the_wanted_number_of_images_is_of_one_type(tmp_path):
    folder = make_folder(tmp_path / "x", 5)
    write_image(folder / "00.png", np.zeros((20, 20, 3), np.uint16))
    found = scan_folder(folder, 3, (0, 255), DATA.replace(max_images=3))
    assert [path.name for path in found.paths] == ["0.png", "1.png", "2.png"]
    assert [path.name for path, _ in found.unreadable] == ["00.png"]


def test_the_value_range_of_deep_images_is_found_in_the_data(tmp_path):
    (tmp_path / "x").mkdir()
    for index, (low, high) in enumerate([(300, 4000), (250, 3000)]):
        array = np.linspace(low, high, 400).reshape(20, 20, 1).astype(np.uint16)
        write_image(tmp_path / "x" / f"{index}.tif", array)
    image_format = scan_folder(tmp_path / "x", 1, None, DATA).image_format
    assert (image_format.dtype, image_format.low, image_format.high) == ("uint16", 250, 4000)
    assert scan_folder(tmp_path / "x", 1, (0, 65535), DATA).image_format.high == 65535


def test_files_with_a_broken_header_are_left_out_and_named(folders):
    (folders[0] / "broken.png").write_bytes(b"not a picture")
    scanned = scan_folder(folders[0], 3, None, DATA)
    assert [path.name for path, _ in scanned.unreadable] == ["broken.png"]
    assert len(scanned) == 6


def test_files_that_fail_to_decode_are_skipped_alike_by_everyone(folders):
    path = folders[0] / "3.png"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    first, second = dataset(*folders), dataset(*folders)
    reported = set()
    for step in range(4):
        one, two = first[step], second[step]
        assert torch.equal(one.a, two.a)
        reported |= {name for name, _ in one.unreadable}
    assert reported == {str(path)}


def test_held_out_images_leave_the_training_set(tmp_path):
    scanned = scan_folder(make_folder(tmp_path / "x", 40), 3, None, DATA)
    split = split_held_out(scanned, 4, seed=0)
    kept, held = split.training, split.held
    assert len(kept) == 36
    assert len(held) == 4
    assert not set(kept.paths) & set(held)
    few = split_held_out(scanned, 5, seed=0)  # too few to spare any
    assert (few.training, few.held) == (scanned, ())


def copy_of(path, *names):
    return [Path(shutil.copyfile(path, path.with_name(name))) for name in names]


def test_copies_of_held_out_images_leave_the_training_set_with_them(tmp_path):
    folder = make_folder(tmp_path / "x", 60)
    alone = split_held_out(scan_folder(folder, 3, None, DATA), 4, seed=0)
    assert (alone.copies, alone.has_copies) == ((), False)
    copies = [path for original in sorted(folder.iterdir()) for path in copy_of(original, f"copy of {original.name}")]
    split = split_held_out(scan_folder(folder, 3, None, DATA), 4, seed=0)
    assert len(split.held) == len(split.copies) == 4
    assert {path.read_bytes() for path in split.held} == {path.read_bytes() for path in split.copies}
    assert not {path.read_bytes() for path in split.held} & {path.read_bytes() for path in split.training.paths}
    assert len(split.training) == len(split.training.keys) == 60 + len(copies) - 8


def test_at_most_a_tenth_leaves_the_training_set_copies_included(tmp_path):
    folder = make_folder(tmp_path / "x", 60)
    first = split_held_out(scan_folder(folder, 3, None, DATA), 6, seed=0).held[0]
    copy_of(first, *(f"{index:02} again.png" for index in range(10)))
    split = split_held_out(scan_folder(folder, 3, None, DATA), 7, seed=0)
    assert len(split.held) == 7  # others in the place of one with too many copies
    assert (split.copies, split.has_copies) == ((), False)
    assert first.read_bytes() not in {path.read_bytes() for path in split.held}


def test_files_of_one_size_are_copies_only_with_the_same_bytes(tmp_path):
    # Their beginnings, middles and sizes are the same.
    arrays = [np.zeros((90, 90, 3), np.uint8) for _ in range(40)]
    (tmp_path / "x").mkdir()
    for index, array in enumerate(arrays):
        array[-1, -1] = min(index, 38)  # the last two are copies
        np.save(tmp_path / "x" / f"{index:02}.npy", array)
    found = find_identical(sorted((tmp_path / "x").iterdir()), files := list_images(tmp_path / "x"), sizes_of(files))
    assert found == {**{index: [index] for index in range(38)}, 38: [38, 39], 39: [38, 39]}
    (tmp_path / "x" / "03.npy").unlink()
    assert 3 not in find_identical(list(files[:5]), files, np.full(40, arrays[0].nbytes + 128))


def test_a_file_with_other_channels_is_passed_over_and_named(tmp_path):
    (tmp_path / "x").mkdir()
    for index, channels in enumerate((3, 3, 5)):
        np.save(tmp_path / "x" / f"{index}.npy", np.random.default_rng(0).random((20, 20, channels)).astype(np.float32))
    found = scan_folder(tmp_path / "x", 3, (0, 1), DATA)
    assert [path.name for path in found.paths] == ["0.npy", "1.npy"]
    assert found.unreadable == ((tmp_path / "x" / "2.npy", "5 channels of float32; the model takes 3"),)
    with pytest.raises(InputError, match=r"Only 1 of the 3 images.*: 2 are of other.*0.npy: 3 channels.*-b 3"):
        scan_folder(tmp_path / "x", 5, (0, 1), DATA)


def test_without_shuffling_images_come_by_name_and_pairs_stay(tmp_path):
    a, b = make_folder(tmp_path / "a", count=5), make_folder(tmp_path / "b", count=5)
    data = DATA.replace(shuffle=False, flip=False, preprocess="resize-and-crop", load_size=16, crop_size=16)
    ordered = dataset(a, b, data, batch_size=2)
    first, again = ordered[0], ordered[5]  # 10 images are two passes over five
    assert torch.equal(first.a, again.a)
    assert not torch.equal(first.a[0], first.a[1])
    for step in range(5):  # the two folders hold the same pictures
        assert torch.equal(ordered[step].a, ordered[step].b)


def test_only_so_many_images_are_used_the_first_by_name(tmp_path):
    folder = make_folder(tmp_path / "a", count=8)
    (folder / "1.png").write_bytes(b"no image")
    found = scan_folder(folder, 3, None, DATA.replace(max_images=3))
    assert [path.name for path in found.paths] == ["0.png", "2.png", "3.png"]
    assert [path.name for path, _ in found.unreadable] == ["1.png"]
    assert len(scan_folder(folder, 3, None, DATA.replace(max_images=100))) == 7


def test_batches_are_made_ahead_by_a_thread_that_ends_with_them(folders):
    before = threading.active_count()
    items = dataset(*folders)
    source = batches(items, 4, 0)
    for step in (4, 5, 6):
        one, two = next(source), items[step]
        assert torch.equal(one.a, two.a)
        assert torch.equal(one.b, two.b)
    source.close()
    assert threading.active_count() == before


def test_an_error_of_the_loading_thread_comes_out_of_the_batch_that_it_belongs_to(folders):
    items, before = dataset(*folders), threading.active_count()
    source = batches(items, 0, 0)
    next(source)
    for path in folders[1].iterdir():
        path.unlink()
    with pytest.raises(InputError, match="No image in .* can be read any more"):
        list(itertools.islice(source, 6))
    assert threading.active_count() == before


def test_a_file_that_has_become_too_small_is_skipped(tmp_path):
    a, b = make_folder(tmp_path / "a", count=4), make_folder(tmp_path / "b", count=4)
    items = dataset(a, b, DataConfig(preprocess="crop", crop_size=16), batch_size=4)
    make_folder(a, count=1, size=(12, 12))
    assert "smaller than the crop" in items[0].unreadable[0][1]
    assert items[0].a.shape == (4, 3, 16, 16)


@pytest.mark.parametrize("cache_bytes", [0, 2**20])
def test_a_file_that_has_become_one_of_another_type_is_skipped(tmp_path, cache_bytes):
    a, b = make_folder(tmp_path / "a", count=4), make_folder(tmp_path / "b", count=4)
    items = dataset(a, b, DataConfig(preprocess="crop", crop_size=16), batch_size=4, cache_bytes=cache_bytes)
    for path, array in (
        (a / "1.png", np.full((20, 24, 3), 30000, np.uint16)),
        (b / "2.png", np.full((20, 24, 1), 30000, np.uint16)),
    ):
        path.unlink()
        write_image(path, array)
    for step in (0, 1):
        batch = items[step]
        assert {name for name, _ in batch.unreadable} == {str(a / "1.png"), str(b / "2.png")}
        assert all("uint16" in reason for _, reason in batch.unreadable)
        assert batch.a.shape == batch.b.shape == (4, 3, 16, 16)
        assert batch.a.mean() < 0.9


@pytest.mark.parametrize("pin_memory", [False, True])
def test_memory_is_pinned_only_where_it_is_asked_for(folders, monkeypatch, pin_memory):
    pinned = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # a machine with a GPU, whatever trains
    monkeypatch.setattr(Batch, "pin_memory", lambda batch: pinned.append(batch) or batch)
    source = batches(dataset(*folders), 0, 0, pin_memory=pin_memory)
    given = [next(source) for _ in range(2)]
    source.close()
    assert pinned == (given if pin_memory else [])


def test_training_on_the_cpu_pins_nothing(folders, tmp_path, monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(Batch, "pin_memory", lambda batch: pinned.append(batch) or batch)
    train(*folders, out=tmp_path / "run", quiet=True, **TINY, steps=2)
    assert pinned == []


def test_making_a_tensor_leaves_the_array_alone():
    array = np.linspace(0, 2, 64, dtype=np.float32).reshape(8, 8, 1)
    before = array.copy()
    tensor = to_tensor(array, ImageFormat(channels=1, dtype="float32", low=0, high=2))
    assert np.array_equal(array, before)
    assert torch.allclose(tensor, torch.linspace(-1, 1, 64).reshape(1, 8, 8), atol=1e-6)

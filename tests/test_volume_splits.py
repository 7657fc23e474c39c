"""Volumes are held out of training as a whole."""

import pytest

from conftest import TINY
from cyclegan import train
from cyclegan.config import DataConfig
from cyclegan.data.image_folder import scan_folder
from cyclegan.data.splits import split_held_out
from medical_files import hounsfield, write_series, write_volume


def split_of(folder, num_images):
    """What is held out of a folder, and all of it."""
    scanned = scan_folder(folder, 1, (-1000, 1000), DataConfig(crop_size=16, load_size=18))
    return split_held_out(scanned, num_images, seed=0), scanned


def volume_of(path):
    return path.parent.name


def test_a_volume_is_held_out_as_a_whole(tmp_path):
    """Else slices would be scored whose neighbours are trained on."""
    for seed in range(12):
        write_volume(tmp_path / f"{seed}.nii.gz", hounsfield(seed))
    split, scanned = split_of(tmp_path, 10)
    assert len(scanned) == 12 * 18  # 22 slices, 2 of air at each end
    assert len(split.held) == 10
    assert len(split.held) + len(split.copies) == 18
    assert len(split.training) == 11 * 18
    assert not {volume_of(path) for path in split.training.paths} & {volume_of(path) for path in split.held}
    indices = sorted(int(path.name[1:]) for path in split.held)
    assert (indices[0], indices[-1] > 15) == (2, True)  # from all of the volume


@pytest.mark.parametrize("count", [1, 2])
def test_of_one_or_two_volumes_a_block_of_neighbouring_slices_is_held_out(tmp_path, count):
    for seed in range(count):
        write_volume(tmp_path / f"{seed}.nii.gz", hounsfield(seed, (20, 24, 104)))
    split, _ = split_of(tmp_path, 10)
    indices = sorted(int(path.name[1:]) for path in split.held)
    assert indices == list(range(indices[0], indices[0] + 10))
    assert len({volume_of(path) for path in split.held}) == 1
    assert len(split.training) == count * 100 - 10
    assert split.copies == ()


def test_for_sample_grids_alone_few_slices_leave_training_from_all_over(tmp_path):
    for seed in range(3):
        write_volume(tmp_path / f"{seed}.nii.gz", hounsfield(seed))
    split, scanned = split_of(tmp_path, 4)
    assert (len(split.held), len(split.training)) == (4, len(scanned) - 4)
    assert split.kind == "single slices of {}, whose neighbours are trained on"
    for seed in range(3, 50):
        write_volume(tmp_path / f"{seed}.nii.gz", hounsfield(seed))
    split, _ = split_of(tmp_path, 4)
    assert not {volume_of(path) for path in split.training.paths} & {volume_of(path) for path in split.held}


def test_a_series_is_held_out_as_a_whole_in_one_folder_with_others(tmp_path):
    series = {}
    for number in range(15):
        write_series(tmp_path / f"{number}", count=2, SeriesInstanceUID=f"1.2.{number}")
        for path in (tmp_path / f"{number}").iterdir():
            series[path.rename(tmp_path / f"{path.name}-{number}").name] = number
    split, _ = split_of(tmp_path, 2)
    held, trained = ({series[path.name] for path in paths} for paths in (split.held, split.training.paths))
    assert (len(held), len(trained)) == (1, 14)
    assert not held & trained


def test_a_copy_of_a_volume_leaves_training_with_it(tmp_path):
    for seed in range(4):
        for name in (f"{seed}.nii.gz", f"copy{seed}.nii.gz"):
            write_volume(tmp_path / name, hounsfield(seed))
    split, _ = split_of(tmp_path, 10)
    held = {volume_of(path).removeprefix("copy") for path in (*split.held, *split.copies)}
    trained = {volume_of(path).removeprefix("copy") for path in split.training.paths}
    assert len(held) == 1
    assert held | trained == {f"{seed}.nii.gz" for seed in range(4)}
    assert not held & trained


def test_a_run_says_what_is_held_out_and_keeps_it(tmp_path, capfd):
    for name, count in (("a", 8), ("b", 1)):
        for seed in range(count):
            write_volume(tmp_path / name / f"{seed}.nii.gz", hounsfield(seed, (20, 24, 22 if count > 1 else 140)))
    changes = {**TINY, "quiet": False, "channels_a": 1, "channels_b": 1, "num_validation": 10, "num_samples": 0}
    changes |= {"range_a": (-1000, 1000), "range_b": (-1000, 1000)}
    train(tmp_path / "a", tmp_path / "b", out=tmp_path / "run", **{**changes, "steps": 1})
    said = " ".join(capfd.readouterr().err.split())
    assert "A: 126 images to train on, and 10 held out with 8 other slices of their volumes" in said
    origin = (
        "held out of the training folders: whole volumes of A and neighbouring slices of a volume of B, which is "
        "trained on, too"
    )
    assert f"Scores: from 10 images of A and 10 of B, {origin}" in said
    train(out=tmp_path / "run", resume=True, quiet=False, steps=2)
    said = " ".join(capfd.readouterr().err.split())
    assert "A: 126 images to train on, and 10 held out with 8 other slices of their volumes" in said

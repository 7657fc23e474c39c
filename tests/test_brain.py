"""The dataset `brain`: built from volumes of nilearn, split by height, at their places in space."""

import json
import sys

import numpy as np
import pytest

from cyclegan.cli import main
from cyclegan.datasets import download
from cyclegan.errors import InputError
from cyclegan.images.file_list import list_images

nibabel = pytest.importorskip("nibabel")
pytest.importorskip("nilearn")


@pytest.fixture(scope="module")
def brain(tmp_path_factory):
    out = tmp_path_factory.mktemp("brain") / "data"
    before = set(sys.modules)
    download("brain", out)
    assert "nilearn" not in set(sys.modules) - before  # importing it takes seconds
    return out


def heights(folder):
    """The heights of all slices in millimetres."""
    found = []
    for path in sorted(folder.iterdir()):
        image = nibabel.load(path)
        found += [image.affine[2, 3] + index for index in range(image.shape[2])]
    return found


def test_training_slices_are_from_other_heights_and_test_slices_from_the_same(brain):
    a, b, test = (set(heights(brain / name)) for name in ("trainA", "trainB", "testA"))
    assert not a & b
    assert not (a | b) & test
    assert heights(brain / "testA") == heights(brain / "testB")
    about = json.loads((brain / "about.json").read_text())
    counts = {name: len(list_images(brain / name)) for name in ("trainA", "trainB", "testA", "testB")}
    assert about["slices"] == counts
    assert min(counts.values()) > 20


def test_the_files_hold_parts_of_the_whole_volumes_at_their_places(brain):
    for folder, name in (("trainA", "t1"), ("trainB", "grey_matter"), ("testA", "t1"), ("testB", "grey_matter")):
        whole = nibabel.load(brain / f"{name}.nii.gz")
        for path in (brain / folder).iterdir():
            part = nibabel.load(path)
            first = round(part.affine[2, 3] - whole.affine[2, 3])
            assert path.name == f"z{first:03d}.nii.gz"
            expected = np.asarray(whole.dataobj)[..., first : first + part.shape[2]]
            assert np.array_equal(np.asarray(part.dataobj), expected)
            assert np.array_equal(part.affine[:, :3], whole.affine[:, :3])


def test_t1_and_grey_matter_lie_in_one_place(brain):
    t1, grey = (nibabel.load(brain / f"{name}.nii.gz") for name in ("t1", "grey_matter"))
    assert np.array_equal(t1.affine, grey.affine)
    assert t1.header.get_zooms() == (2, 2, 1)
    assert nibabel.aff2axcodes(t1.affine) == ("R", "A", "S")
    # The middle of the first voxel, which holds those of 1 mm from -98 to -96 and from -134 to -132.
    assert t1.affine[:3, 3].tolist() == [-97.5, -133.5, -72]
    assert (np.asarray(t1.dataobj)[np.asarray(grey.dataobj) > 200] > 0).mean() > 0.99


def test_options_that_are_for_other_datasets_are_refused(tmp_path):
    with pytest.raises(InputError, match="brain has no variant 'etopo1'"):
        download("brain", tmp_path / "x", variant="etopo1")
    with pytest.raises(InputError, match="brain is built from installed images and not downloaded"):
        download("brain", tmp_path / "x", mirror="https://example.org")


def test_a_missing_package_names_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("cyclegan.datasets.brain.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"of the package nilearn: pip install 'cyclegan\[brain\]'\."):
        download("brain", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_it_is_listed(capsys):
    main(["download", "--list"])
    assert "grey matter" in capsys.readouterr().out

"""Volumes and DICOM series for tests."""

import numpy as np
import pytest
from test_dicom import make_image, save

nibabel = pytest.importorskip("nibabel")

AFFINE = np.array([[-2.0, 0, 0, 30], [0, 2, 0, -40], [0, 0, 3, 10], [0, 0, 0, 1]])  # from the patient's left
SHAPE = (20, 24, 22)


def hounsfield(seed, shape=SHAPE):
    """Smooth values of int16 in a box, and air of -1000 in the slices at both ends."""
    rng = np.random.default_rng(seed)
    values = np.full(shape, -1000, np.int16)
    x, y, z = np.indices(shape)
    body = 500 * np.sin(x / 5 + seed) + 300 * np.cos(y / 4) + 100 * np.sin(z) + rng.normal(0, 20, shape)
    values[2:-2, 2:-2, 2:-2] = body[2:-2, 2:-2, 2:-2]
    return values


def write_volume(path, values, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)
    return path


def write_series(folder, *, count=5, **attributes):
    """A series of CT slices, whose names are not in the order of their places."""
    folder.mkdir(parents=True, exist_ok=True)
    values = hounsfield(3)
    for index in range(count):
        stored = np.ascontiguousarray(values[:, :, 4 + index].T)
        image = make_image(
            stored,
            RescaleSlope=1,
            RescaleIntercept=0,
            ImagePositionPatient=[0, 0, 2.5 * index],
            InstanceNumber=index + 1,
            **attributes,
        )
        save(folder / f"IM{count - 1 - index:05d}", image)
    return folder

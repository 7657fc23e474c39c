"""The dataset `brain`, built from volumes inside a PyPI package: a T1 image of the head, and its grey matter."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyclegan.datasets.earth import write_about
from cyclegan.errors import InputError

T1_NAME = "T1-weighted image of the ICBM 152 template, nonlinear, symmetric, 2009a, without skull"
GREY_NAME = "probability of grey matter of the same template (255 is 1)"

_FILE = "datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"

# Slices are 1 mm thick, and neighbours are alike. So blocks of them have one role, in this order from the neck up.
BLOCK = 9
ROLES = ("a", "b", "test", "a", "b")

# Voxels of the template, of 1 mm, that are averaged into one, across and along a slice.
REDUCTION = 2


def build_brain(out: Path, *, block: int = BLOCK, reduction: int = REDUCTION) -> None:
    """Slices of a T1 image (domain A) and of its grey matter (B), as volumes in NIfTI files.

    block: axial slices, each 1 mm thick, that follow each other in one file. The files of trainA, trainB and of the
    test folders come from different heights of the head, those of testA and testB from the same. reduction: voxels
    that become one, in both directions of a slice. `t1.nii.gz` and `grey_matter.nii.gz` are the whole volumes.
    Raises InputError if nilearn, which holds the template, or nibabel is not installed.
    """
    affine, t1 = read_template("t1", reduction)
    _, grey = read_template("gm", reduction)
    counts = dict.fromkeys(("trainA", "trainB", "testA", "testB"), 0)
    folders = {"a": {"trainA": t1}, "b": {"trainB": grey}, "test": {"testA": t1, "testB": grey}}
    for number, first in enumerate(range(0, t1.shape[2], block)):
        chosen = slice(first, first + block)
        if not t1[..., chosen].any():  # only air
            continue
        for folder, volume in folders[ROLES[number % len(ROLES)]].items():
            (out / folder).mkdir(parents=True, exist_ok=True)
            _save(out / folder / f"z{first:03d}.nii.gz", volume[..., chosen], affine, first)
            counts[folder] += volume[..., chosen].shape[2]
    _save(out / "t1.nii.gz", t1, affine, 0)
    _save(out / "grey_matter.nii.gz", grey, affine, 0)
    write_about(
        out,
        {
            "name": "brain",
            "a": T1_NAME,
            "b": GREY_NAME,
            "source": "the PyPI package nilearn; McConnell Brain Imaging Centre, Montreal Neurological Institute",
            "voxel_mm": [reduction, reduction, 1],
            "block_slices": block,
            "slices": counts,
        },
    )


def read_template(name: str, reduction: int = 1) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Affine and voxels (right, anterior, superior) of a volume of the template, reduced within axial slices.

    name: t1 or gm. Raises InputError if nilearn, which holds the template, or nibabel is not installed.
    """
    spec = find_spec("nilearn")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("The brain dataset is made of volumes of the package nilearn: pip install 'cyclegan[brain]'.")
    try:
        import nibabel
    except ImportError:
        raise InputError("Volumes need the package nibabel: pip install 'cyclegan[medical]'.") from None
    image: Any = nibabel.load(Path(next(iter(spec.submodule_search_locations))) / _FILE.format(name))
    voxels = np.asarray(image.dataobj)
    width, depth, height = voxels.shape[0] // reduction, voxels.shape[1] // reduction, voxels.shape[2]
    cells = voxels[: width * reduction, : depth * reduction].reshape(width, reduction, depth, reduction, height)
    affine = image.affine @ np.diag([reduction, reduction, 1, 1])
    # The first voxel of the result covers the first voxels of the template, so its centre is their mean position.
    affine[:3, 3] += image.affine[:3, :2] @ np.full(2, (reduction - 1) / 2)
    return affine, np.rint(cells.mean((1, 3))).astype(np.uint8)


def _save(path: Path, voxels: NDArray[np.uint8], affine: NDArray[np.float64], first: int) -> None:
    """Write slices from the height `first` on, at their place."""
    import nibabel

    place = affine.copy()
    place[:3, 3] += affine[:3, 2] * first
    make: Any = nibabel.Nifti1Image
    image = make(voxels, place)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)

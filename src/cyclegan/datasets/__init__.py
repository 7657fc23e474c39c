"""Datasets by name: download or build them."""

from pathlib import Path

from cyclegan.datasets.brain import build_brain
from cyclegan.datasets.catalogue import CITYSCAPES, STANDARD, unknown
from cyclegan.datasets.earth import EARTH_VARIANTS, build_earth
from cyclegan.datasets.earth16 import build_earth16
from cyclegan.errors import InputError
from cyclegan.system.arguments import check_path
from cyclegan.system.atomic import atomic_path, check_free

__all__ = ["DATASETS", "EARTH_VARIANTS", "download"]

DATASETS = ("earth", "earth16", "brain", *STANDARD)


def download(name: str, out: Path, *, variant: str = "shadedrelief", mirror: str | None = None, **options: int) -> Path:
    """Download or build the dataset `name` in the folder `out`: trainA, trainB, testA, testB. Returns `out`.

    variant: domain B of earth, shadedrelief or etopo1. mirror: server to use instead of the authors', see
    `standard.address`. options: lengths in pixels of `build_earth` and `build_earth16`, and in voxels of
    `build_brain`.
    Raises InputError for an unknown name or variant, an `out` that is in use, or a missing package; DownloadError if
    the file cannot be downloaded, and ArchiveError if it cannot be unpacked.
    """
    out = check_path("out", out)
    if name == "cityscapes":
        raise InputError(CITYSCAPES)
    if name in STANDARD:
        from cyclegan.datasets.standard import download_dataset  # loads torch, which earth does without

        return download_dataset(name, out, mirror=mirror)
    if name not in DATASETS:
        raise unknown(name, DATASETS)
    if variant not in EARTH_VARIANTS:
        raise InputError(f"There is no variant {variant!r} of earth; available: {', '.join(EARTH_VARIANTS)}.")
    if mirror is not None:
        raise InputError(f"{name} is built from installed images and not downloaded; leave --mirror out.")
    if name != "earth" and variant != "shadedrelief":
        raise InputError(f"{name} has no variant {variant!r}; leave --variant out, or take earth.")
    check_free(out)
    with atomic_path(out) as folder:  # a dataset that is there is complete
        if name == "earth16":
            build_earth16(folder, **options)
        elif name == "brain":
            build_brain(folder, **options)
        else:
            build_earth(folder, variant=variant, **options)
    return out

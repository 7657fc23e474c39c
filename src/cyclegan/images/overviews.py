"""Add overviews to a finished TIFF, or write it again as a cloud-optimised GeoTIFF (COG), in bounded memory."""

import shutil
from pathlib import Path

from cyclegan.errors import InputError
from cyclegan.images.geo import import_rasterio, open_dataset

# Sides of the tiles of a COG, and of the image under which no further overview is made.
_BLOCK = 512


def check_overviews(dtype: str) -> None:
    """Raises InputError if rasterio is missing, or cannot hold the type."""
    rasterio = import_rasterio()
    if not rasterio.dtypes.check_dtype(dtype):
        raise InputError(f"The result is {dtype}, which GDAL cannot write; leave out --overviews and --cog.")


def add_overviews(path: Path) -> None:
    """Add overviews of half the size each to a TIFF, until one has at most 512 pixels on its longer side."""
    from rasterio.enums import Resampling

    factors = []
    with open_dataset(path, "r+") as dataset:
        longer = max(dataset.height, dataset.width)
        while longer > _BLOCK * 2 ** len(factors):
            factors.append(2 ** (len(factors) + 1))
        if factors:
            dataset.build_overviews(factors, Resampling.average)


def write_cog(source: Path, target: Path) -> None:
    """Write a TIFF as a cloud-optimised one: tiled, with overviews, and all directories before the data."""
    import rasterio.shutil

    with open_dataset(source) as dataset:
        kind = dataset.dtypes[0]
        rasterio.shutil.copy(
            dataset,
            target,
            driver="COG",
            blocksize=_BLOCK,
            compress="deflate",
            predictor="yes",
            level=6,
            overview_resampling="average",
            bigtiff="if_safer",
        )
    del kind


def finish_tiff(source: Path, target: Path, *, cog: bool) -> None:
    """Write `target` from a finished TIFF, with overviews; cog: as a cloud-optimised GeoTIFF."""
    if cog:
        write_cog(source, target)
        return
    shutil.copyfile(source, target)
    add_overviews(target)

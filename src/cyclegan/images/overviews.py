"""Write a finished TIFF again as a cloud-optimised GeoTIFF (COG): in tiles, with overviews, in bounded memory."""

import errno
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cyclegan.errors import InputError
from cyclegan.images.codecs import write_image
from cyclegan.images.file_formats import FILE_FORMATS, file_format_of
from cyclegan.images.geo import import_rasterio, open_dataset
from cyclegan.images.raster import Raster
from cyclegan.system.atomic import atomic_path
from cyclegan.system.prefetch import num_cores

# Side of the tiles, and of the smallest overview at most.
BLOCK = 512


def check_cog(dtype: str, targets: Iterable[Path]) -> None:
    """Raises InputError if rasterio is missing, GDAL cannot write the type, or a target is no TIFF."""
    rasterio = import_rasterio()
    for path in targets:
        if file_format_of(path) is not FILE_FORMATS["tiff"]:
            raise InputError(f"A COG is a TIFF, and {path} would be none; translate TIFFs alone, or leave out --cog.")
    if dtype == "float16" or not rasterio.dtypes.check_dtype(dtype):
        raise InputError(f"The result is {dtype}, which GDAL does not write; leave out --cog.")


def write_cog(source: Path, target: Path) -> None:
    """Write `target` from a finished TIFF, with the same pixels, metadata and holes; complete or absent.

    Each overview is half as large as the one before, of means of the pixels that are no holes, down to 512 pixels. All
    directories precede the data (https://docs.ogc.org/is/21-026/21-026.html). GDAL keeps at most 256 MB in memory, and
    puts a file with the overviews beside the target while it works. Raises OSError if the disk is full.
    """
    import rasterio.shutil

    options: dict[str, Any] = {"blocksize": BLOCK, "compress": "deflate", "predictor": "yes", "bigtiff": "if_safer"}
    options["num_threads"] = num_cores()
    with atomic_path(target) as partial:
        try:
            with open_dataset(source) as dataset:
                rasterio.shutil.copy(dataset, partial, driver="COG", overview_resampling="average", **options)
        except OSError:
            raise
        except Exception as error:  # GDAL has one for each of its own errors, without the number of the system's
            raise OSError(errno.EIO, f"GDAL could not write it: {error}") from error
        finally:
            for rest in partial.parent.glob(f"{partial.name}*.tmp"):
                rest.unlink()
        _check_whole(partial)


def write_finished(path: Path, raster: Raster, *, cog: bool) -> None:
    """As `write_image`; cog: a TIFF as a COG."""
    if not cog:
        write_image(path, raster)
        return
    with tempfile.TemporaryDirectory(prefix="cyclegan-") as folder:
        plain = Path(folder) / "plain.tif"
        write_image(plain, raster)
        write_cog(plain, path)


def _check_whole(path: Path) -> None:
    """Raises OSError if a TIFF ends before its data: GDAL may print an error of the disk and go on."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        ends = [max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True))) for page in file.pages]
    if max(ends) > path.stat().st_size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

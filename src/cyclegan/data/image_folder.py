"""The images of one domain, checked before training."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from cyclegan.config import AS_IT_IS, DataConfig, Reading
from cyclegan.data.folder_scan import FolderScan
from cyclegan.errors import InputError
from cyclegan.images.file_list import FileList, list_images
from cyclegan.images.formats import ImageFormat
from cyclegan.images.headers import HeaderIndex
from cyclegan.images.limits import pixel_limit
from cyclegan.images.places import check_units
from cyclegan.system.json_files import describe_validation_error


@dataclass(frozen=True)
class ImageFolder:
    """The images of one domain that training can use, in a fixed order, and the files that it cannot.

    keys: (N,) hashes of name, size and time of change of each image. num_bytes: (N,) sizes of the files. unreadable:
    image files that are passed over, and why: damaged, too small, of another type, or with other channels.
    other_files: how many files of the folder are no images, by suffix. num_empty: slices of volumes that are passed
    over because they have a single value, such as those of air. replaced_nodata: numbers for holes that files name, and
    that the reading replaces.
    """

    root: Path
    paths: FileList
    image_format: ImageFormat
    keys: NDArray[np.uint64] = field(compare=False, repr=False)
    num_bytes: NDArray[np.int64] = field(compare=False, repr=False)
    unreadable: tuple[tuple[Path, str], ...] = ()
    other_files: Mapping[str, int] = field(default_factory=dict)
    num_empty: int = 0
    replaced_nodata: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def find(self, names: Collection[str]) -> dict[str, int]:
        """The positions of those of these images, named relative to the folder, that it holds; in one pass."""
        return {name: place for place, name in enumerate(self.paths.names()) if name in names} if names else {}

    def without(self, paths: Collection[Path]) -> "ImageFolder":
        """The folder without these images."""
        if not paths:
            return self
        excluded = {path.relative_to(self.paths.root).as_posix() for path in paths}
        kept = np.fromiter((name not in excluded for name in self.paths.names()), bool, len(self))
        return replace(self, paths=self.paths.without(paths), keys=self.keys[kept], num_bytes=self.num_bytes[kept])


def scan_folder(
    root: Path,
    channels: int,
    value_range: tuple[float, float] | None,
    config: DataConfig,
    *,
    reading: Reading = AS_IT_IS,
    domain: str | None = None,
    index: HeaderIndex | None = None,
    on_files: Callable[[int], None] = lambda _: None,
) -> ImageFolder:
    """Check every image of a folder before training: readable, of one type, large enough. Find its value range.

    Headers are read, and whole files only where the range of values must be found (types other than 8-bit). Files of
    another type than most, with other channels than `channels`, or smaller than the crop are passed over.
    value_range: values that become -1 and 1; default: 0 and 255 for 8-bit, else the extremes of the folder.
    reading: how files are read, see `Reading`. Holes are left out of the range. domain: names the flags in messages.
    index: known headers, which are not read again; afterwards it holds those of this folder.
    on_files: called with the number of images so far.
    Raises InputError for a folder without images, and for one of whose readable images not more than half can be used.
    """
    index = HeaderIndex.empty() if index is None else index
    scan = FolderScan(list_images(root, reading.axis), channels, value_range, config, reading, index, domain)
    with pixel_limit(config.max_pixels):
        for count in scan.run():
            on_files(count)
        found = scan.result()
        if not found.is_most:
            raise InputError(scan.problem(found))
    dtype = found.dtype
    low, high = scan.ranges.get(dtype, (np.inf, -np.inf))
    if value_range is not None:
        low, high = value_range
    elif dtype == "uint8":
        low, high = 0.0, 255.0
    elif low > high:
        raise InputError(f"All pixels of the images in {root} are holes (no data); nothing can be learned from them.")
    elif low == high:
        raise InputError(f"All values of the images in {root} are {low:g}; nothing can be learned from them.")
    try:
        image_format = ImageFormat(
            channels=channels, dtype=dtype, low=low, high=high, alpha=found.last_is_alpha, **reading.model_dump()
        )
    except ValidationError as error:
        raise InputError(f"The images in {root} cannot be used: {describe_validation_error(error)}") from None
    paths = scan.files if len(found.positions) == len(scan.files) else scan.files.take(found.positions)
    check_units(paths)
    passed_over = scan.unreadable | {at: reason.text for at, reason in found.left_out.items()}
    return ImageFolder(
        Path(root),
        paths,
        image_format,
        found.keys,
        found.num_bytes,
        tuple((scan.files[at], reason) for at, reason in sorted(passed_over.items())),
        scan.files.left_out,
        scan.num_empty,
        tuple(sorted(scan.replaced_nodata)),
    )

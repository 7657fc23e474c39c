"""The images of one domain, checked before training."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from cyclegan.config import DataConfig, Reading
from cyclegan.data.preprocessing import check_size
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.codecs import load_raster
from cyclegan.images.file_formats import image_suffixes
from cyclegan.images.file_list import FileList, list_images
from cyclegan.images.formats import ImageFormat, gives_channels
from cyclegan.images.headers import HeaderIndex, Headers, read_headers
from cyclegan.system.json_files import describe_validation_error

Positions = NDArray[np.intp]

# Everything as the file says.
_AS_IT_IS = Reading()


@dataclass(frozen=True)
class ImageFolder:
    """The readable images of one domain, in a fixed order, and the files that could not be read.

    keys: (N,) hashes of name, size and time of change of each image. num_bytes: (N,) sizes of the files.
    """

    root: Path
    paths: FileList
    image_format: ImageFormat
    keys: NDArray[np.uint64] = field(compare=False, repr=False)
    num_bytes: NDArray[np.int64] = field(compare=False, repr=False)
    unreadable: tuple[tuple[Path, str], ...] = ()

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
    reading: Reading = _AS_IT_IS,
    index: HeaderIndex | None = None,
    on_files: Callable[[int], None] = lambda _: None,
) -> ImageFolder:
    """Check every image of a folder before training: readable, of one type, large enough. Find its value range.

    Headers are read, and whole files only where the range of values must be found (types other than 8-bit).
    value_range: values that become -1 and 1; default: 0 and 255 for 8-bit, else the extremes of the folder.
    reading: how files are read, see `Reading`. Holes are left out of the range.
    index: known headers, which are not read again; afterwards it holds those of this folder.
    on_files: called with the number of images so far. Raises InputError for a folder without images, mixed types,
    channels other than `channels`, or sizes under the crop.
    """
    index = HeaderIndex.empty() if index is None else index
    scan = _FolderScan(list_images(root), channels, value_range, config, reading, index)
    for count in scan.run():
        on_files(count)
    paths, unreadable = scan.paths(), scan.unreadable_paths()
    if not paths:
        reason = f" ({len(unreadable)} files could not be read)" if unreadable else ""
        expected = " ".join(image_suffixes())
        raise InputError(f"{root} holds no readable images{reason}; expected files of type {expected}.")
    if len(scan.first_of_type) > 1:
        firsts = sorted(scan.first_of_type.items(), key=lambda item: item[1])
        examples = ", ".join(f"{scan.files[position].name} is {dtype}" for dtype, position in firsts)
        raise InputError(f"{root} mixes types of images ({examples}); convert them to one type.")
    (dtype,) = scan.first_of_type
    if value_range is not None:
        low, high = value_range
    elif dtype == "uint8":
        low, high = 0.0, 255.0
    elif scan.low < scan.high:
        low, high = scan.low, scan.high
    else:
        raise InputError(f"All values of the images in {root} are {scan.low:g}; nothing can be learned from them.")
    try:
        image_format = ImageFormat(channels=channels, dtype=dtype, low=low, high=high, **reading.model_dump())
    except ValidationError as error:
        raise InputError(f"The images in {root} cannot be used: {describe_validation_error(error)}") from None
    keys, num_bytes = np.concatenate(scan.keys), np.concatenate(scan.num_bytes)
    return ImageFolder(Path(root), paths, image_format, keys, num_bytes, unreadable)


@dataclass
class _FolderScan:
    """One pass over the files of a folder. Positions are indices into `files`."""

    files: FileList
    channels: int
    value_range: tuple[float, float] | None
    config: DataConfig
    reading: Reading
    index: HeaderIndex
    usable: list[Positions] = field(default_factory=list)
    keys: list[NDArray[np.uint64]] = field(default_factory=list)  # of the usable files, as num_bytes
    num_bytes: list[NDArray[np.int64]] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)
    first_of_type: dict[str, int] = field(default_factory=dict)  # numpy type -> position of its first file
    low: float = np.inf
    high: float = -np.inf
    has_read_picture: bool = False  # one 8-bit file is enough to check the channels of all
    end: int | None = None  # position behind the last file that was looked at, if some were not

    def run(self) -> Iterator[int]:
        """Scan the files; yields the number of usable images so far. Raises InputError for what cannot be used."""
        limit = self.config.max_images
        count, seen = 0, []
        for headers in read_headers(self.files, self.index):
            seen.append(headers)
            self.unreadable |= headers.unreadable
            rest = np.flatnonzero(headers.kinds >= 0)
            while len(rest) and count != limit:
                chosen, rest = np.split(rest, [len(rest) if limit is None else limit - count])
                usable = self._check(headers, chosen)
                self.usable.append(headers.begin + usable)
                self.keys.append(headers.keys[usable])
                self.num_bytes.append(headers.num_bytes[usable])
                count += len(usable)
                yield count
            if count == limit:
                self.end = int(self.usable[-1][-1])
                return  # keep the index as it is, with the headers of the other files
        if seen:
            self.index.replace(seen)

    def _check(self, headers: Headers, offsets: Positions) -> Positions:
        """Those of some files of a chunk, by offset in it, that training can use."""
        bad: list[int] = []
        for kind in np.unique(headers.kinds[offsets]).tolist():
            dtype, channels, has_alpha = self.index.table[kind]
            is_picture = channels is None
            is_known = self.reading.bands is None and gives_channels(channels, has_alpha, self.channels)
            for offset in offsets[headers.kinds[offsets] == kind].tolist():
                # Reading raises the error about wrong channels.
                if is_picture and self.has_read_picture:
                    break
                if not is_picture and is_known and (dtype == "uint8" or self.value_range is not None):
                    break
                try:
                    raster = load_raster(self.files[headers.begin + offset], self.channels, self.reading)
                except UnreadableError as error:
                    self.unreadable[headers.begin + offset] = str(error)
                    bad.append(offset)
                    continue
                self.has_read_picture |= is_picture
                values = raster.values if raster.valid is None else raster.values[raster.valid]
                if values.size:
                    self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        offsets = offsets[~np.isin(offsets, bad)]
        for kind in np.unique(headers.kinds[offsets]).tolist():
            first = offsets[headers.kinds[offsets] == kind][0]
            self.first_of_type.setdefault(self.index.table[kind][0], headers.begin + int(first))
        # One file of each size.
        _, firsts = np.unique(headers.sizes[offsets], axis=0, return_index=True)
        for offset in offsets[np.sort(firsts)].tolist():
            height, width = headers.sizes[offset].tolist()
            check_size(self.files[headers.begin + offset], height, width, self.config)
        return offsets

    def paths(self) -> FileList:
        positions = np.concatenate(self.usable) if self.usable else np.zeros(0, np.intp)
        return self.files if len(positions) == len(self.files) else self.files.take(positions)

    def unreadable_paths(self) -> tuple[tuple[Path, str], ...]:
        """Files that cannot be read, and why: of those up to the last one that is used."""
        found = sorted(self.unreadable.items())
        return tuple((self.files[at], reason) for at, reason in found if self.end is None or at < self.end)

"""The images of one domain: looked at before training, and some of them held out."""

import hashlib
import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cyclegan.config import DataConfig
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.codecs import read_image
from cyclegan.images.file_list import FileList, list_images
from cyclegan.images.formats import EXTENSIONS, ImageFormat
from cyclegan.images.headers import HeaderIndex, Headers, read_headers

Places = NDArray[np.intp]


@dataclass(frozen=True)
class ImageFolder:
    """The readable images of one domain, in a fixed order, and the files that could not be read."""

    root: Path
    paths: FileList
    image_format: ImageFormat
    unreadable: tuple[tuple[Path, str], ...] = ()

    def __len__(self) -> int:
        return len(self.paths)


def scan_folder(
    root: Path,
    channels: int,
    value_range: tuple[float, float] | None,
    config: DataConfig,
    *,
    index: HeaderIndex | None = None,
    on_files: Callable[[int], None] = lambda _: None,
) -> ImageFolder:
    """Look at every image of a folder before training starts: readable, one type, large enough; find its value range.

    Headers are read, and whole files only where the range of values must be found (types other than 8-bit).
    index: headers that are known; afterwards it has those of this folder. on_files: called with how many images have
    been looked at. Raises InputError for a folder without images, mixed types, channels other than `channels`, sizes
    under the crop.
    """
    index = HeaderIndex.empty() if index is None else index
    look = _Look(list_images(root), channels, value_range, config, index)
    for count in look.through():
        on_files(count)
    paths, unreadable = look.paths(), look.unreadable_paths()
    if not paths:
        reason = f" ({len(unreadable)} files could not be read)" if unreadable else ""
        raise InputError(f"{root} holds no readable images{reason}; expected files of type {' '.join(EXTENSIONS)}.")
    if len(look.first_of) > 1:
        firsts = sorted(look.first_of.items(), key=lambda item: item[1])
        examples = ", ".join(f"{look.files[place].name} is {dtype}" for dtype, place in firsts)
        raise InputError(f"{root} mixes types of images ({examples}); convert them to one type.")
    (dtype,) = look.first_of
    low, high = look.low, look.high
    if value_range is not None:
        low, high = value_range
    elif dtype == "uint8":
        low, high = 0.0, 255.0
    elif not low < high:
        raise InputError(f"All values of the images in {root} are {low:g}; nothing can be learned from them.")
    image_format = ImageFormat(channels=channels, dtype=dtype, low=low, high=high)
    return ImageFolder(Path(root), paths, image_format, unreadable)


@dataclass
class _Look:
    """One pass over the files of a folder."""

    files: FileList
    channels: int
    value_range: tuple[float, float] | None
    config: DataConfig
    index: HeaderIndex

    def __post_init__(self) -> None:
        self.good: list[Places] = []  # places in `files`
        self.unreadable: dict[int, str] = {}
        self.first_of: dict[str, int] = {}  # numpy type -> place of its first file
        self.low, self.high = np.inf, -np.inf
        self.has_read = False  # whether an 8-bit file was read, which stands for all
        self.last = len(self.files)

    def through(self) -> Iterator[int]:
        """Look at everything; gives how many images are good so far. Raises InputError for what cannot be used."""
        most = self.config.max_images
        count, seen = 0, []
        for headers in read_headers(self.files, self.index):
            seen.append(headers)
            self.unreadable |= headers.unreadable
            rest = np.flatnonzero(headers.kinds >= 0)
            while len(rest) and count != most:
                some, rest = np.split(rest, [len(rest) if most is None else most - count])
                good = self._usable(headers, some)
                self.good.append(headers.begin + good)
                count += len(good)
                yield count
            if count == most:
                self.last = int(self.good[-1][-1])
                return  # the index stays as it is: it would lose the others
        if seen:
            self.index.keep(seen)

    def _usable(self, headers: Headers, places: Places) -> Places:
        """Those of some places of a chunk that training can use."""
        bad: list[int] = []
        for kind in np.unique(headers.kinds[places]).tolist():
            dtype, channels = self.index.table[kind]
            is_picture = channels is None
            for place in places[headers.kinds[places] == kind].tolist():
                # Reading tells of wrong channels, with what to do.
                if is_picture and self.has_read:
                    break
                if not is_picture and channels == self.channels and (dtype == "uint8" or self.value_range is not None):
                    break
                try:
                    values = read_image(self.files[headers.begin + place], self.channels)
                except UnreadableError as error:
                    self.unreadable[headers.begin + place] = str(error)
                    bad.append(place)
                    continue
                self.has_read |= is_picture
                self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        places = places[~np.isin(places, bad)]
        for kind in np.unique(headers.kinds[places]).tolist():
            first = places[headers.kinds[places] == kind][0]
            self.first_of.setdefault(self.index.table[kind][0], headers.begin + int(first))
        _, firsts = np.unique(headers.sizes[places], axis=0, return_index=True)
        for place in places[np.sort(firsts)].tolist():
            height, width = headers.sizes[place].tolist()
            check_size(self.files[headers.begin + place], height, width, self.config)
        return places

    def paths(self) -> FileList:
        places = np.concatenate(self.good) if self.good else np.zeros(0, np.intp)
        return self.files if len(places) == len(self.files) else self.files.take(places)

    def unreadable_paths(self) -> tuple[tuple[Path, str], ...]:
        return tuple(
            (self.files[place], self.unreadable[place]) for place in sorted(self.unreadable) if place < self.last
        )


def check_size(path: Path, height: int, width: int, config: DataConfig) -> None:
    """Raises InputError if an image of this size is smaller than the crop."""
    if not config.crops:
        return
    scaled_height, scaled_width = scaled_size(height, width, config)
    if min(scaled_height, scaled_width) < config.crop_size:
        raise InputError(
            f"{path} is {width}x{height} pixels ({scaled_width}x{scaled_height} after {config.preprocess}), "
            f"smaller than the crop of {config.crop_size}. Pass a smaller --crop-size, or --preprocess resize-and-crop."
        )


def scaled_size(height: int, width: int, config: DataConfig) -> tuple[int, int]:
    """Height and width of an image after the resizing that comes before the crop."""
    size = config.resolved_load_size
    if config.preprocess == "resize-and-crop":
        return size, size
    if config.preprocess.startswith("scale-width"):
        return max(1, round(height * size / width)), size
    if config.preprocess.startswith("scale-short-side"):
        scale = size / min(height, width)
        return max(size, round(height * scale)), max(size, round(width * scale))
    return height, width


def split_held_out(folder: ImageFolder, num_images: int, seed: int) -> tuple[ImageFolder, tuple[Path, ...]]:
    """Take `num_images` away from a folder by a hash of their names, so that a model never sees them.

    A folder of fewer than ten times as many images stays whole, and nothing is held out.
    """
    if num_images == 0 or len(folder) < 10 * num_images:
        return folder, ()

    def rank(item: tuple[int, str]) -> bytes:
        return hashlib.sha256(f"{seed}/{item[1]}".encode(errors="surrogateescape")).digest()

    held = sorted(place for place, _ in heapq.nsmallest(num_images, enumerate(folder.paths.names()), key=rank))
    paths = tuple(folder.paths[place] for place in held)
    return replace(folder, paths=folder.paths.without(paths)), paths

"""The images of one domain, checked before training."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from cyclegan.config import DataConfig, Reading
from cyclegan.data.preprocessing import SIZE_ADVICE, size_problem
from cyclegan.errors import InputError, MissingPackageError, UnreadableError
from cyclegan.images.codecs import load_raster
from cyclegan.images.file_formats import FILE_FORMATS, image_suffixes
from cyclegan.images.file_list import FileList, describe_left_out, has_slices, is_slice, list_images
from cyclegan.images.formats import ImageFormat, gives_channels
from cyclegan.images.headers import HeaderIndex, Headers, read_headers
from cyclegan.images.limits import pixel_limit
from cyclegan.images.npy import CHANNELS_LAST
from cyclegan.images.places import check_units
from cyclegan.images.raster import Raster
from cyclegan.system.json_files import describe_validation_error

Positions = NDArray[np.intp]

# Everything as the file says.
_AS_IT_IS = Reading()


@dataclass(frozen=True)
class ImageFolder:
    """The images of one domain that training can use, in a fixed order, and the files that it cannot.

    keys: (N,) hashes of name, size and time of change of each image. num_bytes: (N,) sizes of the files. unreadable:
    image files that are passed over, and why: damaged, too small, of another type, or with other channels.
    other_files: how many files of the folder are no images, by suffix. num_empty: slices of volumes that are passed
    over because they have a single value, such as those of air.
    """

    root: Path
    paths: FileList
    image_format: ImageFormat
    keys: NDArray[np.uint64] = field(compare=False, repr=False)
    num_bytes: NDArray[np.int64] = field(compare=False, repr=False)
    unreadable: tuple[tuple[Path, str], ...] = ()
    other_files: Mapping[str, int] = field(default_factory=dict)
    num_empty: int = 0

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

    Headers are read, and whole files only where the range of values must be found (types other than 8-bit). Files of
    another type than most, with other channels than `channels`, or smaller than the crop are passed over.
    value_range: values that become -1 and 1; default: 0 and 255 for 8-bit, else the extremes of the folder.
    reading: how files are read, see `Reading`. Holes are left out of the range.
    index: known headers, which are not read again; afterwards it holds those of this folder.
    on_files: called with the number of images so far.
    Raises InputError for a folder without images, and for one of whose readable images not more than half can be used.
    """
    index = HeaderIndex.empty() if index is None else index
    scan = _FolderScan(list_images(root, reading.axis), channels, value_range, config, reading, index)
    with pixel_limit(config.max_pixels):
        for count in scan.run():
            on_files(count)
        found = scan.result()
        if not found.is_most:
            scan.raise_problem(found)
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
    return ImageFolder(
        Path(root),
        paths,
        image_format,
        found.keys,
        found.num_bytes,
        scan.named(found),
        scan.files.left_out,
        scan.num_empty,
    )


class _Reason(NamedTuple):
    """Why a readable image is left out: in words that complete "it is ...", about this file, and what to do."""

    kind: str
    text: str
    advice: str


_OTHER_TYPE = "of another type"


@dataclass(frozen=True)
class _Found:
    """The result of a scan: positions of the images of the most frequent type that can be used, with their keys and
    sizes, and why the other readable ones are left out.
    """

    dtype: str
    positions: Positions
    keys: NDArray[np.uint64]
    num_bytes: NDArray[np.int64]
    left_out: dict[int, _Reason]
    last_is_alpha: bool | None

    @property
    def is_most(self) -> bool:
        return len(self.positions) > len(self.left_out)


@dataclass
class _FolderScan:
    """One pass over the files of a folder. Positions are indices into `files`, kinds into the table of the index.

    usable: positions, kinds, keys and sizes in bytes of files that can be used if most are of their type. ranges: numpy
    type -> smallest and largest value. left_out: readable files that cannot be used, and why; unreadable: the others.
    """

    files: FileList
    channels: int
    value_range: tuple[float, float] | None
    config: DataConfig
    reading: Reading
    index: HeaderIndex
    usable: list[tuple[Positions, NDArray[np.int16], NDArray[np.uint64], NDArray[np.int64]]] = field(
        default_factory=list
    )
    counts: Counter[str] = field(default_factory=Counter)  # numpy type -> usable files
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    left_out: dict[int, _Reason] = field(default_factory=dict)
    unreadable: dict[int, str] = field(default_factory=dict)
    tried: set[int] = field(default_factory=set)  # kinds of which one file was read
    num_empty: int = 0  # slices of volumes that have a single value

    def __post_init__(self) -> None:
        self.has_slices = has_slices(self.files)

    def run(self) -> Iterator[int]:
        """Scan the files until enough of one type are found; yields the number of usable images so far."""
        limit = self.config.max_images
        count, seen = 0, []
        for headers in read_headers(self.files, self.index, page=self.reading.page):
            seen.append(headers)
            rest = np.flatnonzero(headers.kinds >= 0)
            while len(rest) and count != limit:
                chosen, rest = np.split(rest, [len(rest) if limit is None else limit - count])
                usable = self._check(headers, chosen)
                self.usable.append(
                    (headers.begin + usable, headers.kinds[usable], headers.keys[usable], headers.num_bytes[usable])
                )
                for kind, more in zip(*np.unique(headers.kinds[usable], return_counts=True), strict=True):
                    self.counts[self.index.table[kind].dtype] += int(more)
                count = max(self.counts.values(), default=0)
                yield sum(self.counts.values())
            # Those behind the last image that is used are not looked at.
            end = headers.begin + int(rest[0]) if count == limit and len(rest) else len(self.files)
            self.unreadable |= {at: reason for at, reason in headers.unreadable.items() if at < end}
            self.left_out |= {at: _Reason("unusable", why, "") for at, why in headers.refused.items() if at < end}
            if count == limit:
                return  # keep the index as it is, with the headers of the other files
        if seen:
            self.index.replace(seen)

    def _check(self, headers: Headers, offsets: Positions) -> Positions:
        """Those of some files of a chunk, by offset in it, that training can use."""
        bad: set[int] = set()

        def leave_out(offset: int, *reason: str) -> None:
            bad.add(offset)
            self.left_out[headers.begin + offset] = _Reason(*reason)

        # Smaller than the crop: one look at each size.
        sizes, which = np.unique(headers.sizes[offsets], axis=0, return_inverse=True)
        for number, (height, width) in enumerate(sizes.tolist()):
            if problem := size_problem(height, width, self.config):
                for offset in offsets[which.ravel() == number].tolist():
                    leave_out(offset, "too small", problem, SIZE_ADVICE)
        offsets = offsets[~np.isin(offsets, list(bad))]

        for number in np.unique(headers.kinds[offsets]).tolist():
            kind = self.index.table[number]
            alike = offsets[headers.kinds[offsets] == number].tolist()
            if not self.reading.bands and not gives_channels(kind.channels, kind.has_alpha, self.channels):
                for offset in alike:
                    text = f"{kind.describe()}; the model takes {self.channels}"
                    advice = kind.channels_advice()
                    # An array whose first axis has the channels, where its height should be.
                    if headers.sizes[offset, 0] == self.channels and self._is_array(headers.begin + offset):
                        text, advice = f"{text}, which its first axis has", f"Save {CHANNELS_LAST} instead."
                    leave_out(offset, "of other channels", text, advice)
                continue
            for offset in alike:
                at = headers.begin + offset
                is_part = self.has_slices and is_slice(self.files.name(at))
                if not is_part and not self._must_read(number):
                    if self.has_slices:
                        continue
                    break
                try:
                    raster = load_raster(self.files[at], self.channels, self.reading)
                except UnreadableError as error:
                    bad.add(offset)
                    self.unreadable[at] = str(error)
                except MissingPackageError:
                    raise
                except InputError as error:
                    leave_out(offset, "unusable", str(error).removeprefix(f"{self.files[at]} "), "")
                else:
                    if is_part and _is_constant(raster):
                        bad.add(offset)
                        self.num_empty += 1
                        continue
                    self.tried.add(number)
                    self._extend_range(kind.dtype, raster)
        return offsets[~np.isin(offsets, list(bad))]

    def _is_array(self, at: int) -> bool:
        return self.files.name(at).lower().endswith(FILE_FORMATS["npy"].suffixes)

    def _must_read(self, number: int) -> bool:
        """Whether a file of this kind is read: for its range, or one of each kind that may not give the channels."""
        kind = self.index.table[number]
        if kind.dtype != "uint8" and self.value_range is None:
            return True
        return (kind.channels is None or bool(self.reading.bands)) and number not in self.tried

    def _extend_range(self, dtype: str, raster: Raster) -> None:
        values = raster.values if raster.valid is None else raster.values[raster.valid]
        if values.size:
            low, high = self.ranges.get(dtype, (np.inf, -np.inf))
            self.ranges[dtype] = min(low, float(values.min())), max(high, float(values.max()))

    def result(self) -> _Found:
        """The usable images of the most frequent type."""
        dtype = max(self.counts, key=lambda name: self.counts[name], default="uint8")
        nothing = (np.zeros(0, np.intp), np.zeros(0, np.int16), np.zeros(0, np.uint64), np.zeros(0, np.int64))
        parts = self.usable or [nothing]
        positions, kinds, keys, num_bytes = (np.concatenate(part) for part in zip(*parts, strict=True))
        is_of_type = np.array([kind.dtype == dtype for kind in self.index.table] or [False])[kinds]
        others = {
            position: _Reason(
                _OTHER_TYPE,
                f"{self.index.table[kind].dtype}, where most images are {dtype}",
                "Convert them to one type.",
            )
            for position, kind in zip(positions[~is_of_type].tolist(), kinds[~is_of_type].tolist(), strict=True)
        }
        used = [self.index.table[kind] for kind in np.unique(kinds[is_of_type]).tolist()]
        # Four channels are colours and transparency where a file says so, as every 8-bit picture with four does.
        last_is_alpha = None
        if self.channels == 4 and used:
            last_is_alpha = self.reading.bands is None and any(kind.has_alpha or kind.channels is None for kind in used)
        return _Found(
            dtype,
            positions[is_of_type],
            keys[is_of_type],
            num_bytes[is_of_type],
            self.left_out | others,
            last_is_alpha,
        )

    def named(self, found: _Found) -> tuple[tuple[Path, str], ...]:
        """All image files that are passed over, and why."""
        reasons = self.unreadable | {at: reason.text for at, reason in found.left_out.items()}
        return tuple((self.files[at], reason) for at, reason in sorted(reasons.items()))

    def raise_problem(self, found: _Found) -> NoReturn:
        """Raises InputError for a folder of which too little can be used: what it holds, and what to do."""
        root = self.files.root
        if not found.left_out:
            reason = ""
            if self.unreadable:
                at = min(self.unreadable)
                count = f"{len(self.unreadable):,} {'file' if len(self.unreadable) == 1 else 'files'}"
                reason = f" ({count} could not be read, such as {self.files.name(at)}: {self.unreadable[at]})"
            other = f" ({describe_left_out(self.files.left_out)[:-1]})" if self.files.left_out else ""
            expected = " ".join(image_suffixes())
            raise InputError(f"{root} holds no readable images{reason}{other}; expected files of type {expected}.")
        kinds: dict[str, list[int]] = {}  # what is wrong -> positions
        for at, why in sorted(found.left_out.items()):
            kinds.setdefault(why.kind, []).append(at)
        by_count = sorted(kinds.items(), key=lambda item: -len(item[1]))

        def example(at: int) -> str:
            return f"{self.files[at].name}: {found.left_out[at].text}"

        problems = ", ".join(
            f"{len(places):,} {'is' if len(places) == 1 else 'are'} {kind} ({example(places[0])})"
            for kind, places in by_count
        )
        total, kept = len(found.left_out) + len(found.positions), len(found.positions)
        some = f"Only {kept:,}" if kept else "None"
        mixes = f"{root} mixes types of images. " if by_count[0][0] == _OTHER_TYPE else ""
        advice = found.left_out[by_count[0][1][0]].advice
        raise InputError(f"{mixes}{some} of the {total:,} images in {root} can be used: {problems}. {advice}".rstrip())


def _is_constant(raster: Raster) -> bool:
    """Whether an image has a single value outside its holes, or none."""
    values = raster.values if raster.valid is None else raster.values[raster.valid]
    return values.size == 0 or bool((values == values.flat[0]).all())

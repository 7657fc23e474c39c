"""One pass over the files of a folder: which of them training can use, and why it cannot use the others."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cyclegan.config import DataConfig, Reading
from cyclegan.data.preprocessing import SIZE_ADVICE, size_problem
from cyclegan.errors import InputError, MissingPackageError, UnreadableError
from cyclegan.images import Array
from cyclegan.images.codecs import load_raster
from cyclegan.images.file_formats import FILE_FORMATS, image_suffixes
from cyclegan.images.file_list import FileList, describe_left_out, has_slices, is_slice
from cyclegan.images.filetypes.npy import CHANNELS_LAST
from cyclegan.images.formats import gives_channels
from cyclegan.images.headers import HeaderIndex, Headers, Kind, read_headers
from cyclegan.images.raster import is_air
from cyclegan.system.words import counted

Positions = NDArray[np.intp]

_OTHER_TYPE = "of another type"


class Reason(NamedTuple):
    """Why a readable image is left out: in words that complete "it is ...", about this file, and what to do."""

    kind: str
    text: str
    advice: str


class _Usable(NamedTuple):
    """Files that can be used if most are of their type: positions, kinds, keys, and sizes in bytes."""

    positions: Positions
    kinds: NDArray[np.int16]
    keys: NDArray[np.uint64]
    num_bytes: NDArray[np.int64]


@dataclass(frozen=True)
class Found:
    """The result of a scan: positions of the images of the most frequent type that can be used, with their keys and
    sizes, and why the other readable ones are left out.
    """

    dtype: str
    positions: Positions
    keys: NDArray[np.uint64]
    num_bytes: NDArray[np.int64]
    left_out: dict[int, Reason]
    last_is_alpha: bool | None

    @property
    def is_most(self) -> bool:
        """Whether more than half of the readable images can be used."""
        return len(self.positions) > len(self.left_out)


@dataclass
class FolderScan:
    """Positions are indices into `files`, kinds into the table of the index, offsets into a chunk of headers.

    domain: `a` or `b`, which names flags in messages. replaced_nodata: numbers for holes that files name, and that the
    reading replaces.
    counts: numpy type -> usable files. ranges: numpy type -> smallest and largest value. left_out: readable files that
    cannot be used, and why; unreadable: the others. num_empty: slices of volumes that have a single value.
    """

    files: FileList
    channels: int
    value_range: tuple[float, float] | None
    config: DataConfig
    reading: Reading
    index: HeaderIndex
    domain: str | None = None
    counts: Counter[str] = field(default_factory=Counter)
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    left_out: dict[int, Reason] = field(default_factory=dict)
    unreadable: dict[int, str] = field(default_factory=dict)
    num_empty: int = 0
    replaced_nodata: set[float] = field(default_factory=set)
    _usable: list[_Usable] = field(default_factory=list)
    _tried: set[Kind] = field(default_factory=set)  # of which one file was read

    def __post_init__(self) -> None:
        self._has_slices = has_slices(self.files)

    def run(self) -> Iterator[int]:
        """Scan the files until enough of one type are found; yields the number of usable images so far."""
        limit = self.config.max_images
        count, seen = 0, []
        for headers in read_headers(self.files, self.index, page=self.reading.page):
            seen.append(headers)
            rest = np.flatnonzero(headers.kinds >= 0)
            while len(rest) and count != limit:
                chosen, rest = np.split(rest, [len(rest) if limit is None else limit - count])
                self._add(headers, self._check(headers, chosen))
                count = max(self.counts.values(), default=0)
                yield sum(self.counts.values())
            # Those behind the last image that is used are not looked at.
            end = headers.begin + int(rest[0]) if count == limit and len(rest) else len(self.files)
            self.unreadable |= {at: reason for at, reason in headers.unreadable.items() if at < end}
            self.left_out |= {at: Reason("unusable", why, "") for at, why in headers.refused.items() if at < end}
            if count == limit:
                return  # keep the index as it is, with the headers of the other files
        if seen:
            self.index.replace(seen)

    def _add(self, headers: Headers, offsets: Positions) -> None:
        kinds = headers.kinds[offsets]
        self._usable.append(_Usable(headers.begin + offsets, kinds, headers.keys[offsets], headers.num_bytes[offsets]))
        for kind, more in zip(*np.unique(kinds, return_counts=True), strict=True):
            self.counts[self.index.table[kind].dtype] += int(more)

    def _check(self, headers: Headers, offsets: Positions) -> Positions:
        """Those of some files of a chunk that training can use."""
        bad = self._leave_out_small(headers, offsets)
        offsets = offsets[~np.isin(offsets, bad)]
        for number in np.unique(headers.kinds[offsets]).tolist():
            kind, alike = self.index.table[number], offsets[headers.kinds[offsets] == number].tolist()
            if self.reading.bands or gives_channels(kind.channels, kind.has_alpha, self.channels):
                bad += self._read(kind, headers.begin, alike)
            else:
                bad += self._leave_out_channels(kind, headers, alike)
        return offsets[~np.isin(offsets, bad)]

    def _leave_out_small(self, headers: Headers, offsets: Positions) -> list[int]:
        """Leave out images that are smaller than the crop, by one look at each size."""
        small = []
        sizes, which = np.unique(headers.sizes[offsets], axis=0, return_inverse=True)
        for number, (height, width) in enumerate(sizes.tolist()):
            if problem := size_problem(height, width, self.config):
                found = offsets[which.ravel() == number].tolist()
                self.left_out |= {headers.begin + at: Reason("too small", problem, SIZE_ADVICE) for at in found}
                small += found
        return small

    def _leave_out_channels(self, kind: Kind, headers: Headers, offsets: list[int]) -> list[int]:
        """Leave out images of a kind that does not give the channels."""
        for offset in offsets:
            at, text, advice = headers.begin + offset, kind.describe(), kind.channels_advice(self.channels, self.domain)
            text = f"{text}; the model takes {self.channels}"
            # An array whose first axis has the channels, where its height should be.
            if headers.sizes[offset, 0] == self.channels and self._is_array(at):
                text, advice = f"{text}, which its first axis has", f"Save {CHANNELS_LAST} instead."
            self.left_out[at] = Reason("of other channels", text, advice)
        return offsets

    def _is_array(self, at: int) -> bool:
        return self.files.name(at).lower().endswith(FILE_FORMATS["npy"].suffixes)

    def _read(self, kind: Kind, begin: int, offsets: list[int]) -> list[int]:
        """Read those images of a kind whose header does not say enough. Returns those that cannot be used."""
        bad = []
        for offset in offsets:
            at = begin + offset
            is_part = self._has_slices and is_slice(self.files.name(at))
            if not is_part and not self._must_read(kind):
                if self._has_slices:
                    continue
                break
            try:
                raster = load_raster(self.files[at], self.channels, self.reading)
            except UnreadableError as error:
                self.unreadable[at] = str(error)
            except MissingPackageError:
                raise
            except InputError as error:
                self.left_out[at] = Reason("unusable", str(error).removeprefix(f"{self.files[at]} "), "")
            else:
                if raster.metadata.replaced_nodata is not None:
                    self.replaced_nodata.add(raster.metadata.replaced_nodata)
                if not is_part or not is_air(raster):
                    self._tried.add(kind)
                    self._extend_range(
                        kind.dtype, raster.values if raster.valid is None else raster.values[raster.valid]
                    )
                    continue
                self.num_empty += 1
            bad.append(offset)
        return bad

    def _must_read(self, kind: Kind) -> bool:
        """Whether a file of this kind is read: for its range, or one of each kind that may not give the channels."""
        if kind.dtype != "uint8" and self.value_range is None:
            return True
        return (kind.channels is None or bool(self.reading.bands)) and kind not in self._tried

    def _extend_range(self, dtype: str, values: Array) -> None:
        if values.size:
            low, high = self.ranges.get(dtype, (np.inf, -np.inf))
            self.ranges[dtype] = min(low, float(values.min())), max(high, float(values.max()))

    def result(self) -> Found:
        """The usable images of the most frequent type."""
        dtype = max(self.counts, key=lambda name: self.counts[name], default="uint8")
        nothing = _Usable(np.zeros(0, np.intp), np.zeros(0, np.int16), np.zeros(0, np.uint64), np.zeros(0, np.int64))
        usable = _Usable(*map(np.concatenate, zip(*(self._usable or [nothing]), strict=True)))
        table = self.index.table
        is_of_type = np.array([kind.dtype == dtype for kind in table] or [False])[usable.kinds]
        others = {
            position: Reason(
                _OTHER_TYPE, f"{table[kind].dtype}, where most images are {dtype}", "Convert them to one type."
            )
            for position, kind in zip(
                usable.positions[~is_of_type].tolist(), usable.kinds[~is_of_type].tolist(), strict=True
            )
        }
        used = [table[kind] for kind in np.unique(usable.kinds[is_of_type]).tolist()]
        # Four channels are colours and transparency where a file says so, as every 8-bit picture with four does.
        last_is_alpha = None
        if self.channels == 4 and used:
            last_is_alpha = self.reading.bands is None and any(kind.has_alpha or kind.channels is None for kind in used)
        return Found(
            dtype,
            usable.positions[is_of_type],
            usable.keys[is_of_type],
            usable.num_bytes[is_of_type],
            self.left_out | others,
            last_is_alpha,
        )

    def problem(self, found: Found) -> str:
        """A sentence on a folder of which too little can be used: what it holds, and what to do."""
        root = self.files.root
        if not found.left_out:
            reason = ""
            if self.unreadable:
                at = min(self.unreadable)
                count = counted(len(self.unreadable), "file")
                reason = f" ({count} could not be read, such as {self.files.name(at)}: {self.unreadable[at]})"
            other = f" ({describe_left_out(self.files.left_out)[:-1]})" if self.files.left_out else ""
            expected = " ".join(image_suffixes())
            return f"{root} holds no readable images{reason}{other}; expected files of type {expected}."
        by_kind: dict[str, list[int]] = {}  # positions
        for at, why in sorted(found.left_out.items()):
            by_kind.setdefault(why.kind, []).append(at)
        most_first = sorted(by_kind.items(), key=lambda item: -len(item[1]))
        problems = ", ".join(
            f"{len(places):,} {'is' if len(places) == 1 else 'are'} {kind} "
            f"({self.files[places[0]].name}: {found.left_out[places[0]].text})"
            for kind, places in most_first
        )
        kind, places = most_first[0]
        total, kept = len(found.left_out) + len(found.positions), len(found.positions)
        some = f"Only {kept:,}" if kept else "None"
        mixes = f"{root} mixes types of images. " if kind == _OTHER_TYPE else ""
        advice = found.left_out[places[0]].advice
        return f"{mixes}{some} of the {total:,} images in {root} can be used: {problems}. {advice}".rstrip()

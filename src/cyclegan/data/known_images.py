"""The images that a run knows, kept with it: later sessions find out which came, went or changed, and keep the split.

A held-out image stays held out and a training image stays one while the run lives, however many images come. Names take
a few bytes each, so that ten million of them are a file of some hundred megabytes.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cyclegan.data.image_folder import ImageFolder
from cyclegan.data.image_order import Stretch
from cyclegan.errors import UnreadableError
from cyclegan.images import Array
from cyclegan.images.file_list import FileList
from cyclegan.images.filetypes.npy import read_stored_arrays
from cyclegan.system.atomic import atomic_path

Keys = NDArray[np.uint64]


@dataclass(frozen=True)
class KnownImages:
    """The images of one domain, by their names below its folder.

    training: all that were ever trained on, in the order in which the run came to know them. keys: (N,) hashes of name,
    size and time of change of these, 0 for one that is gone. held: the images that are held out; held_keys: their
    hashes. copies: images that are left out as copies of these. scored: the validation images. num_validation,
    num_samples: the settings that the split was made for. stretches: when images came and went.
    """

    training: FileList
    keys: Keys
    held: tuple[str, ...]
    held_keys: Keys
    copies: tuple[str, ...]
    scored: tuple[str, ...]
    num_validation: int
    num_samples: int
    stretches: tuple[Stretch, ...] = ()

    @classmethod
    def load(cls, path: Path) -> "KnownImages | None":
        """What `save` wrote; None if the file is missing or damaged."""
        try:
            found = read_stored_arrays(path)
            names = {name: _unpack(found[name]) for name in ("training", "held", "copies", "scored")}
            ends = np.cumsum(found["num_absent"])[:-1]
            stretches = [
                Stretch(int(step), int(batch_size), int(num_known), absent.astype(np.int32))
                for step, batch_size, num_known, absent in zip(
                    *found["stretches"].T, np.split(found["absent"], ends), strict=True
                )
            ]
            known = cls(
                training=names["training"],
                keys=found["keys"].astype(np.uint64),
                held=tuple(names["held"].names()),
                held_keys=found["held_keys"].astype(np.uint64),
                copies=tuple(names["copies"].names()),
                scored=tuple(names["scored"].names()),
                num_validation=int(found["num_validation"]),
                num_samples=int(found["num_samples"]),
                stretches=tuple(stretches),
            )
        except (UnreadableError, ValueError, KeyError, TypeError, OverflowError):
            return None
        return known if known._is_consistent() else None

    def _is_consistent(self) -> bool:
        counts = [stretch.num_known for stretch in self.stretches]
        steps = [stretch.step for stretch in self.stretches]
        return (
            len(self.training) == len(self.keys)
            and len(self.held) == len(self.held_keys)
            and len(counts) > 0
            and steps[0] == 0
            and all(early < late for early, late in pairwise(steps))
            and counts == sorted(counts)
            and counts[-1] == len(self.keys)
            and all(stretch.batch_size > 0 and stretch.num_images > 0 for stretch in self.stretches)
            and all(_are_indices(stretch.absent, stretch.num_known) for stretch in self.stretches)
        )

    def save(self, path: Path) -> None:
        """Write the images to a file of a run."""
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez(
                file,
                training=_pack(self.training.names()),
                keys=self.keys,
                held=_pack(self.held),
                held_keys=self.held_keys,
                copies=_pack(self.copies),
                scored=_pack(self.scored),
                num_validation=self.num_validation,
                num_samples=self.num_samples,
                stretches=np.array([[each.step, each.batch_size, each.num_known] for each in self.stretches], np.int64),
                num_absent=np.array([len(each.absent) for each in self.stretches], np.int64),
                absent=np.concatenate([each.absent for each in self.stretches]),
            )

    def is_like(self, other: "KnownImages | None") -> bool:
        """Whether both are the same."""
        return (
            other is not None
            and self.training.has_same_names(other.training)
            and np.array_equal(self.keys, other.keys)
            and np.array_equal(self.held_keys, other.held_keys)
            and (self.held, self.copies, self.scored) == (other.held, other.copies, other.scored)
            and (self.num_validation, self.num_samples) == (other.num_validation, other.num_samples)
            and len(self.stretches) == len(other.stretches)
            and all(map(Stretch.is_same, self.stretches, other.stretches))
        )

    def find(self, folder: ImageFolder) -> NDArray[np.intp]:
        """(N,) the position in a folder of each training image that was ever known, -1 for one that is gone."""
        if self.training.has_same_names(folder.paths):
            return np.arange(len(folder), dtype=np.intp)
        known, present = _hashes(self.training), _hashes(folder.paths)
        order = np.argsort(present)
        at = np.searchsorted(present, known, sorter=order).clip(max=len(present) - 1)
        return np.where(present[order[at]] == known, order[at], -1)

    def find_new(self, folder: ImageFolder) -> NDArray[np.intp]:
        """The positions in a folder of images that were never trained on."""
        is_new = np.ones(len(folder), bool)
        places = self.find(folder)
        is_new[places[places >= 0]] = False
        return np.flatnonzero(is_new)


def _hashes(files: FileList) -> Keys:
    """(N,) hashes of names: a few bytes for each of many."""

    def digest(name: str) -> int:
        return int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest(), "little")

    return np.fromiter(map(digest, files.names()), np.uint64, len(files))


def _are_indices(values: NDArray[np.int32], count: int) -> bool:
    """Whether these are different indices below `count`, in order."""
    return not len(values) or bool(values[0] >= 0 and values[-1] < count and (np.diff(values) > 0).all())


# Names are one array of bytes, each followed by a zero byte.


def _pack(names: Iterable[str]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(os.fsencode(name) + b"\0" for name in names), np.uint8)


def _unpack(packed: Array) -> FileList:
    return FileList(Path(), packed.astype(np.uint8).tobytes())

"""Find copies in folders: images with the same pixels or nearly the same ones.

All of it takes time in proportion to the number of files and a few kilobytes for each, also if all are alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cyclegan.images.near_copies import OnStep, near_copies


@dataclass(frozen=True)
class Fingerprints:
    """Data of the images of a folder to find copies by.

    files: relative to the folder. digests: of the decoded pixels; empty for slices of air, which count as no copies.
    thumbnails: (N, 16, 16, 3), of which 65535 is white.
    """

    files: tuple[Path, ...]
    digests: tuple[bytes, ...]
    thumbnails: NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Copy:
    """One file that repeats another. difference: root mean square of their thumbnails, in 0..1; 0 for exact copies."""

    file: Path
    of: Path
    exact: bool
    mirrored: bool = False
    difference: float = 0.0
    correlation: float = 1.0


@dataclass(frozen=True)
class Copies:
    """The files of one folder that repeat a file of `of`; inside one folder, that repeat an earlier one."""

    folder: str
    of: str
    copies: tuple[Copy, ...]

    @property
    def counts(self) -> str:
        """How many have the same pixels, and how many nearly the same, in words."""
        num_exact = sum(copy.exact for copy in self.copies)
        return f"{num_exact} exact, {len(self.copies) - num_exact} nearly so"


def find_copies(
    images: Fingerprints,
    of: Fingerprints,
    on_step: OnStep = lambda *_: None,
    *,
    volumes: Sequence[str] | None = None,
) -> tuple[Copy, ...]:
    """Every file that repeats one of `of`; an earlier one if both are the same folder.

    Each file is named once, with its exact original if there is one, else with the most similar one that is found. See
    `near_copies` for near ones. volumes: of each image, in one folder; neighbouring slices are alike, and no copies.
    """
    within = images is of
    own = _first_of(images.digests)
    originals = own if within else _first_of(of.digests)
    # Pictures that are repeated exactly are compared once. An exact copy needs no near one.
    compared = [index for digest, index in own.items() if within or digest not in originals]
    near = near_copies(
        images.thumbnails,
        None if within else of.thumbnails,
        only=compared,
        only_others=None if within else list(originals.values()),
        on_step=on_step,
    )

    copies = []
    for index, (file, digest) in enumerate(zip(images.files, images.digests, strict=True)):
        if not digest:
            continue
        original, alike = originals.get(digest), own[digest]
        if original is not None and not (within and original == index):
            copies.append(Copy(file, of.files[original], exact=True))
        elif (like := int(near.source[alike])) >= 0 and (volumes is None or volumes[index] != volumes[like]):
            rounded = round(float(near.difference[alike]), 4), round(float(near.correlation[alike]), 4)
            copies.append(Copy(file, of.files[like], False, bool(near.mirrored[alike]), *rounded))
    return tuple(copies)


def _first_of(digests: Sequence[bytes]) -> dict[bytes, int]:
    first: dict[bytes, int] = {}
    for index, digest in enumerate(digests):
        if digest:
            first.setdefault(digest, index)
    return first

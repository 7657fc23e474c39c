"""Split two folders into training, sample and validation images.

Sample images are shown in grids. Validation images choose the best checkpoint. Both are held out of training where
there are enough images; where there are not, `origin` says so. Their exact copies leave training with them, and so do
the other slices of their volumes, which look nearly like them. Test images are in separate folders, which `cyclegan
evaluate` scores.
"""

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from cyclegan.config import MIN_VALIDATION, TrainConfig
from cyclegan.data.domains import Folders
from cyclegan.data.image_folder import ImageFolder
from cyclegan.data.known_images import KnownImages
from cyclegan.data.preprocessing import Sample, load_sample
from cyclegan.data.volumes import volumes_of
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.file_list import evenly_spaced, list_images, picture_suffixes
from cyclegan.images.identical import find_identical


@dataclass(frozen=True)
class SampleImages:
    """The images of sample grids, which may have been trained on.

    a, b: (C, H, W) in [-1, 1] at the training size. masks_a, masks_b: (H, W), bool, False in the holes of each image,
    or None for one without holes; empty if none has any. origin: where they are from, in words. unreadable: files that
    were skipped, and why.
    """

    a: tuple[Tensor, ...]
    b: tuple[Tensor, ...]
    origin: str
    unreadable: tuple[tuple[Path, str], ...] = ()
    masks_a: tuple[Tensor | None, ...] = ()
    masks_b: tuple[Tensor | None, ...] = ()


@dataclass(frozen=True)
class ValidationImages:
    """The files that scores during training use.

    trained_a, trained_b: training files to compare them with. origin: where they are from, in words. digest: of their
    names, by which a resumed run recognises them.
    """

    a: tuple[Path, ...]
    b: tuple[Path, ...]
    trained_a: tuple[Path, ...]
    trained_b: tuple[Path, ...]
    origin: str
    digest: str


@dataclass(frozen=True)
class DomainSplit:
    """The images of one domain. training: the folder without `held` and `copies`.

    held: the sample and validation images. copies: images that leave training with them: those with the same bytes, and
    other slices of the same volumes. held_names, copy_names: of both, also of those that are gone since an earlier
    session. scored: the validation images of an earlier session, which stay those of the run. has_copies: whether fewer
    are held out than could be without copies. kind: what is held out, where a folder of volumes is split for the first
    time, in words.
    """

    training: ImageFolder
    held: tuple[Path, ...] = ()
    copies: tuple[Path, ...] = ()
    held_names: tuple[str, ...] = ()
    copy_names: tuple[str, ...] = ()
    scored: tuple[Path, ...] = ()
    has_copies: bool = False
    kind: str = ""

    @property
    def holds_slices(self) -> bool:
        """Whether slices of volumes are held out."""
        return any(not name.lower().endswith(picture_suffixes()) for name in self.held_names)


@dataclass(frozen=True)
class Split:
    """Both domains, their sample images and their validation images."""

    a: DomainSplit
    b: DomainSplit
    samples: SampleImages
    validation: ValidationImages


def split_domains(
    config: TrainConfig,
    folders: Folders,
    a: ImageFolder,
    b: ImageFolder,
    *,
    known: tuple[KnownImages | None, KnownImages | None] = (None, None),
    leave_copies_out: bool = True,
) -> Split:
    """Hold images out of the training folders for validation and, without test folders, for the sample grids.

    Validation images never come from the test folders, which stay unseen until the end. Samples that cannot be used are
    replaced by others. known: the images of an earlier session of the run, whose split stays, unless the settings ask
    for another number of images. leave_copies_out: False for a run that began when copies stayed in training.
    """
    has_test = folders.test_a is not None and folders.test_b is not None
    split_a, split_b = (
        _hold_out_again(whole, config, has_test, before) or _hold_out(whole, config, has_test, leave_copies_out)
        for whole, before in zip((a, b), known, strict=True)
    )
    held_a, held_b = split_a.held, split_b.held

    if folders.test_a is not None and folders.test_b is not None:
        from_a: Sequence[Path] = list_images(folders.test_a, config.data.axis)
        from_b: Sequence[Path] = list_images(folders.test_b, config.data.axis)
        origin = "from the test folders"
    else:
        from_a, from_b = held_a or a.paths, held_b or b.paths
        origin = _origin((split_a, split_b), 1, config.num_samples)
    unreadable: list[tuple[Path, str]] = []
    samples_a, samples_b = (
        read_held_out(_beginning_with(paths, config.num_samples), config.num_samples, folder, config, unreadable)
        for paths, folder in ((from_a, a), (from_b, b))
    )
    samples = SampleImages(
        tuple(sample.image for sample in samples_a),
        tuple(sample.image for sample in samples_b),
        origin,
        tuple(unreadable),
        tuple(sample.mask for sample in samples_a),
        tuple(sample.mask for sample in samples_b),
    )

    def validation_and_others(split: DomainSplit, whole: ImageFolder) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
        # The baseline of real images compares two different sets.
        if len(split.held) >= MIN_VALIDATION:
            return split.held, tuple(evenly_spaced(split.training.paths, config.num_validation))
        files = split.scored or tuple(evenly_spaced(whole.paths, config.num_validation))
        return files, tuple(evenly_spaced(whole.paths.without(files), config.num_validation))

    files_a, trained_a = validation_and_others(split_a, a)
    files_b, trained_b = validation_and_others(split_b, b)
    names = "/".join(path.name for path in (*files_a, *files_b))
    validation = ValidationImages(
        files_a,
        files_b,
        trained_a,
        trained_b,
        _origin((split_a, split_b), MIN_VALIDATION, MIN_VALIDATION),
        hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()[:16],
    )
    return Split(split_a, split_b, samples, validation)


def count_shared(test: Path, training: ImageFolder) -> tuple[int, int]:
    """How many images of a test folder are also trained on, byte for byte, and how many it holds."""
    files = list_images(test, training.image_format.axis)
    found = find_identical(files, training.paths, training.num_bytes)
    return len({index for same in found.values() for index in same}), len(files)


def _hold_out_again(
    folder: ImageFolder, config: TrainConfig, has_test: bool, known: KnownImages | None
) -> DomainSplit | None:
    """The split of an earlier session, with new images in training; None if there is none, or another one is needed."""
    if known is None or known.num_validation != config.num_validation:
        return None
    if not has_test and len(known.held) < config.num_samples != known.num_samples:
        return None
    places = folder.find(frozenset((*known.held, *known.copies, *known.scored)))
    held, copies, scored = (
        tuple(folder.paths[places[name]] for name in names if name in places)
        for names in (known.held, known.copies, known.scored)
    )
    if len(held) < min(1, len(known.held)) or len(scored) < min(2, len(known.scored)):
        return None  # another folder
    training = folder.without((*held, *copies))
    new = known.find_new(training) if held else np.zeros(0, np.intp)
    found = find_identical(held, training.paths.take(new), training.num_bytes[new])
    more = tuple(training.paths[place] for place in new[list(found)].tolist())
    return DomainSplit(
        training.without(more),
        held,
        (*copies, *more),
        known.held,
        (*known.copies, *_names(more, folder)),
        scored,
    )


def _names(paths: Iterable[Path], folder: ImageFolder) -> tuple[str, ...]:
    return tuple(path.relative_to(folder.paths.root).as_posix() for path in paths)


def _hold_out(folder: ImageFolder, config: TrainConfig, has_test: bool, leave_copies_out: bool) -> DomainSplit:
    """Hold out up to a tenth of a folder: enough for scores, or at least for the sample grids without a test folder."""
    tenth = len(folder) // 10
    samples = config.num_samples if not has_test and config.num_samples <= tenth else 0
    wanted = min(config.num_validation, tenth)
    least = MIN_VALIDATION if wanted >= MIN_VALIDATION else 0
    hold_out = partial(split_held_out, folder, seed=config.seed, leave_copies_out=leave_copies_out)
    split = hold_out(max(wanted if least else 0, samples))
    if len(split.held) < least:
        split = replace(hold_out(samples), has_copies=True)
    return DomainSplit(folder, has_copies=True) if len(split.held) < samples else split


def split_held_out(folder: ImageFolder, num_images: int, seed: int, *, leave_copies_out: bool = True) -> DomainSplit:
    """Hold `num_images` different images out of a folder, chosen by a hash of their names.

    At most a tenth of the folder leaves training, the copies of those images included: fewer are held out where there
    are many copies, and none of a folder of fewer than ten times as many images. Of volumes see `_hold_out_volumes`.
    """
    tenth = len(folder) // 10
    if num_images == 0 or tenth < num_images:
        return DomainSplit(folder)
    volumes = volumes_of(folder.paths) if leave_copies_out else None
    if volumes is not None and (split := _hold_out_volumes(folder, volumes, num_images, seed)) is not None:
        return split

    def rank(item: tuple[int, str]) -> bytes:
        return _rank(seed, item[1])

    # More than are wanted, because some may be copies.
    places = [place for place, _ in heapq.nsmallest(2 * num_images, enumerate(folder.paths.names()), key=rank)]
    identical: dict[int, list[int]] = {}
    if leave_copies_out:
        identical = find_identical([folder.paths[at] for at in places], folder.paths, folder.num_bytes)
    others: dict[int, list[int]] = {}  # by the first candidate with the same bytes
    for place, same in identical.items():
        if place != places[same[0]]:
            others.setdefault(same[0], []).append(place)
    held: list[int] = []
    copies: list[int] = []
    for index, place in enumerate(places):
        is_first = identical.get(place, [index])[0] == index
        more = others.get(index, [])
        if is_first and len(held) < num_images and len(held) + len(copies) + 1 + len(more) <= tenth:
            held.append(place)
            copies += more
    paths, apart = (tuple(folder.paths[place] for place in sorted(chosen)) for chosen in (held, copies))
    return DomainSplit(
        folder.without((*paths, *apart)),
        paths,
        apart,
        _names(paths, folder),
        _names(apart, folder),
        has_copies=len(paths) < num_images,
        kind="" if volumes is None else "single slices of {}, whose neighbours are trained on",
    )


def _rank(seed: int, name: str) -> bytes:
    """Names in the order of these are in a random order, which other names do not change."""
    return hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()


def _hold_out_volumes(folder: ImageFolder, volumes: list[str], num_images: int, seed: int) -> DomainSplit | None:
    """Hold slices out of a folder in such a way that their neighbours are not trained on. volumes: of each image.

    Whole volumes, chosen by a hash of their names, leave training: up to a tenth of the folder, or up to a third where
    a tenth is too little for the first ones. Of these, `num_images` slices at equal distances are held out. Where even
    a third is too little, as with one or two volumes, it is a block of neighbouring slices of the largest volume.
    None for too few images for scores that do not come in a tenth: sample grids are not worth more, and show more of
    single slices.
    """
    is_scored = num_images >= MIN_VALIDATION
    places: dict[str, list[int]] = {}
    for place, volume in enumerate(volumes):
        places.setdefault(volume, []).append(place)
    ranked = sorted(places, key=partial(_rank, seed))
    chosen: list[int] = []
    for most in (len(folder) // 10, len(folder) // 3 if is_scored else 0):
        if len(chosen) < num_images:
            chosen = []
            for volume in ranked:
                if len(chosen) < num_images and len(chosen) + len(places[volume]) <= most:
                    chosen += places[volume]
    kind = "whole volumes of {}"
    if len(chosen) < num_images and not is_scored:
        return None
    if len(chosen) < num_images:
        volume = max(ranked, key=lambda name: len(places[name]))
        begin = int.from_bytes(_rank(seed, volume)[:8], "big") % (len(places[volume]) - num_images + 1)
        chosen = places[volume][begin : begin + num_images]
        kind = "neighbouring slices of a volume of {}, which is trained on, too"
    chosen.sort()
    held = evenly_spaced(chosen, num_images)
    identical = find_identical([folder.paths[at] for at in chosen], folder.paths, folder.num_bytes)
    apart = sorted({*chosen, *identical} - {*held})
    if len(held) + len(apart) > len(folder) // 2:
        return DomainSplit(folder, has_copies=True)
    paths, others = (tuple(folder.paths[place] for place in found) for found in (held, apart))
    kind = kind if any(len(places[volumes[at]]) > 1 for at in held) else ""
    return DomainSplit(
        folder.without((*paths, *others)), paths, others, _names(paths, folder), _names(others, folder), kind=kind
    )


def _origin(splits: tuple[DomainSplit, DomainSplit], least: int, wanted: int) -> str:
    """Where images are from, in words. least: as many held-out ones of a domain are used, else those of training."""
    seen = [(name, split) for name, split in zip("AB", splits, strict=True) if len(split.held) < least]
    if not seen:
        kinds = [split.kind.format(name) for name, split in zip("AB", splits, strict=True) if split.kind]
        return f"held out of the training folders{': ' * bool(kinds)}{' and '.join(kinds)}"
    if wanted == 0:
        return "none are asked for"
    copies = ", without copies," if any(split.has_copies for _, split in seen) else ""
    names = " and ".join(name for name, _ in seen)
    if all(len(split.training) // 10 >= wanted for _, split in seen) and not copies:  # images were added since
        return f"those of {names} also trained on, because a tenth of them was fewer than {wanted} when the run began"
    return f"those of {names} also trained on, because a tenth of them{copies} is fewer than {wanted}"


def read_held_out(
    paths: Iterable[Path], wanted: int, folder: ImageFolder, config: TrainConfig, unreadable: list[tuple[Path, str]]
) -> tuple[Sample, ...]:
    """Read the first `wanted` usable images at the training size, without randomness; add the others to `unreadable`.

    Stops early where they take more than half a GiB of memory.
    """
    samples: list[Sample] = []
    num_bytes = 0
    for path in paths:
        if len(samples) == wanted or (num_bytes > 2**29 and len(samples) > 1):
            break
        try:
            samples.append(load_sample(path, folder.image_format, config.data, config.model))
            num_bytes += samples[-1].image.nbytes
        except (InputError, UnreadableError) as error:
            unreadable.append((path, str(error)))
    return tuple(samples)


def _beginning_with(paths: Sequence[Path], count: int) -> Iterator[Path]:
    """All paths, starting with `count` of them at equal distances."""
    first = evenly_spaced(paths, count)
    yield from first
    chosen = set(first)
    yield from (path for path in paths if path not in chosen)

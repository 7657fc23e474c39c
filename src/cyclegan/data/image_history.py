"""Follow the images of a domain from session to session: what changed, and where each one is in the order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cyclegan.config import TrainConfig
from cyclegan.data.image_folder import ImageFolder
from cyclegan.data.image_order import ImageOrder, Stretch
from cyclegan.data.known_images import KnownImages
from cyclegan.data.splits import DomainSplit
from cyclegan.images.file_list import FileList


@dataclass(frozen=True)
class ImageHistory:
    """The images of a domain in this session, and in those before.

    now: as if the run began in this session. before: as kept by the session before, or None. known: all that were ever
    trained on, and their positions in the training folder of this session. changes: a sentence, or nothing.
    """

    now: KnownImages
    before: KnownImages | None = None
    known: KnownImages | None = None
    places: NDArray[np.intp] | None = None
    changes: str = ""

    def begin(self, config: TrainConfig, domain: int, step: int) -> tuple[KnownImages, ImageOrder]:
        """The images as this session, which begins after `step`, is to keep them, and their order. domain: 0 or 1."""
        known, places = self.now, None
        stretches: tuple[Stretch, ...] = (Stretch(0, config.batch_size, len(self.now.keys)),)
        if step > 0 and self.before is not None and self.known is not None:
            known, places = self.known, self.places
            absent = np.flatnonzero(known.keys == 0).astype(np.int32)
            stretch = Stretch(step, config.batch_size, len(known.keys), absent)
            stretches = tuple(each for each in self.before.stretches if each.step <= step)
            if not stretch.is_like(stretches[-1]):
                stretches = (*(each for each in stretches if each.step < step), stretch)
        shuffle, ranks = config.data.shuffle, None
        if not shuffle and len(stretches) > 1:
            names = list(known.training.names())
            ranks = np.empty(len(names), np.intp)
            ranks[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
        order = ImageOrder(config.seed, domain, shuffle, stretches, places, ranks)
        return replace(known, stretches=stretches), order


def follow_images(
    name: str,
    whole: ImageFolder,
    split: DomainSplit,
    scored: Sequence[Path],
    before: KnownImages | None,
    config: TrainConfig,
) -> ImageHistory:
    """Compare the images of a domain, A or B, with those of the session before. scored: its validation images."""
    at = whole.find(frozenset(split.held_names))
    held_keys = np.array([whole.keys[at[each]] if each in at else 0 for each in split.held_names], np.uint64)
    now = KnownImages(
        training=split.training.paths,
        keys=split.training.keys,
        held=split.held_names,
        held_keys=held_keys,
        copies=split.copy_names,
        scored=tuple(path.relative_to(whole.paths.root).as_posix() for path in scored),
        num_validation=config.num_validation,
        num_samples=config.num_samples,
    )
    if before is None:
        return ImageHistory(now)
    found, new = before.find(split.training), before.find_new(split.training)
    keys = np.where(found >= 0, split.training.keys[found], 0).astype(np.uint64)
    added = split.training.paths.take(new)
    training = before.training.plus(added) if len(new) else before.training
    known = replace(now, training=training, keys=np.concatenate([keys, split.training.keys[new]]))
    places = None if training.has_same_names(split.training.paths) else np.concatenate([found, new])
    return ImageHistory(now, before, known, places, _describe_changes(name, before, known))


def _describe_changes(name: str, before: KnownImages, now: KnownImages) -> str:
    """A sentence on the files that were added, removed or changed since the session before, or nothing."""
    old, new = before.keys, now.keys[: len(before.keys)]
    apart = {*now.held, *now.copies}  # those that were trained on before are not gone
    removed = [each for each in _names(before.training, (old != 0) & (new == 0)) if each not in apart]
    added = _names(before.training, (old == 0) & (new != 0))
    changed = _names(before.training, (old != 0) & (new != 0) & (old != new))

    was_apart = {*before.held, *before.copies}
    is_later = np.arange(len(now.keys)) >= len(before.keys)
    added += [each for each in _names(now.training, is_later) if each not in was_apart]
    copies = set(now.copies) - was_apart
    added += sorted(copies.difference(each for each in before.training.names() if each in copies))
    held = dict(zip(now.held, now.held_keys.tolist(), strict=True))
    for each, key in zip(before.held, before.held_keys.tolist(), strict=True):
        if each in held and held[each] != key:
            (added if key == 0 else removed if held[each] == 0 else changed).append(each)

    kinds = {"added": added, "removed or unreadable": removed, "changed": changed}
    first, *more = [f"{len(names)} {kind}" for kind, names in kinds.items() if names] or [""]
    if not first:
        return ""
    number, kind = first.split(" ", 1)
    parts = ", ".join([f"{number} {'image' if number == '1' else 'images'} {kind}", *more])
    return f"{name}: {parts} since the last session, such as {(added or removed or changed)[0]}."


def _names(files: FileList, chosen: NDArray[np.bool_]) -> list[str]:
    return [files.name(index) for index in np.flatnonzero(chosen).tolist()]

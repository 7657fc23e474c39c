"""The batch of any training step, as a pure function of its number."""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cyclegan.config import DataConfig, ModelConfig
from cyclegan.data.image_folder import ImageFolder, check_size, scaled_size
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.codecs import Array, read_as
from cyclegan.images.formats import ImageFormat
from cyclegan.images.tensors import mirror_to_multiple, pad_to_multiple, resize, to_signal, to_tensor

# First entry of the counter-based seeds of the two uses of randomness; the domain is the second.
_ORDER, _AUGMENT = 11, 12


@dataclass(frozen=True)
class Batch:
    """a, b: (N, C, H, W) in [-1, 1]. `unreadable`: files that had to be passed over to make this batch, and why."""

    a: Tensor
    b: Tensor
    unreadable: tuple[tuple[str, str], ...] = ()

    def pin_memory(self) -> "Batch":
        """Called by torch's loader, so that copies to a GPU need not wait."""
        return replace(self, a=self.a.pin_memory(), b=self.b.pin_memory())


@dataclass
class UnpairedDataset(Dataset[Batch]):
    """The batch of step i is item i. Picklable, so that loading processes can be spawned on every platform.

    Every image of a domain comes once in each pass over it, in an order of that pass alone; the two domains are
    shuffled independently, so the pairs are random (without `data.shuffle` both come by name, so that equal positions
    of equally large domains stay pairs). Crops and flips come from (seed, domain, step, slot).
    """

    a: ImageFolder
    b: ImageFolder
    data: DataConfig
    model: ModelConfig
    batch_size: int
    seed: int
    cache_bytes: int = 0
    _cache: dict[Path, Array] = field(default_factory=dict, repr=False)
    _cached_bytes: int = 0

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every image of the larger domain is seen once, rounded up."""
        return -(-max(len(self.a), len(self.b)) // self.batch_size)

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __getitem__(self, step: int) -> Batch:
        # No arithmetic of torch here: its threads, called from a thread beside the training, would be a second pool,
        # and two pools that wait for one another make everything five times slower.
        unreadable: list[tuple[str, str]] = []
        a = [self._item(0, self.a, step, slot, unreadable) for slot in range(self.batch_size)]
        b = [self._item(1, self.b, step, slot, unreadable) for slot in range(self.batch_size)]
        return Batch(torch.from_numpy(np.stack(a)), torch.from_numpy(np.stack(b)), tuple(unreadable))

    def _item(self, domain: int, folder: ImageFolder, step: int, slot: int, unreadable: list[tuple[str, str]]) -> Array:
        """One image, (C, H, W) in [-1, 1]."""
        count = len(folder)
        position = step * self.batch_size + slot
        order = _order(self.seed, domain, position // count, count) if self.data.shuffle else range(count)
        # A file that breaks only when it is decoded is passed over for the next of the order, for everyone alike.
        for offset in range(count):
            path = folder.paths[order[(position + offset) % count]]
            try:
                array = self._load(path, folder.image_format)
            except (InputError, UnreadableError) as error:
                unreadable.append((str(path), str(error)))
                continue
            rng = np.random.default_rng([_AUGMENT, self.seed, domain, step, slot])
            array = augment(array, self.data, rng)
            return to_signal(
                mirror_to_multiple(array, self.model.multiple, self.model.smallest_crop), folder.image_format
            )
        raise InputError(f"No image in {folder.root} can be read any more; the last error: {unreadable[-1][1]}")

    def _load(self, path: Path, image_format: ImageFormat) -> Array:
        """The image after its resizing, from memory if it is there."""
        if path in self._cache:
            return self._cache[path]
        # Type and size may have changed since the file was looked at.
        array = read_as(path, image_format)
        check_size(path, array.shape[0], array.shape[1], self.data)
        array = resize(array, *scaled_size(array.shape[0], array.shape[1], self.data))
        if self._cached_bytes + array.nbytes <= self.cache_bytes:
            self._cache[path] = array
            self._cached_bytes += array.nbytes
        return array


@lru_cache(maxsize=4)  # two passes of two domains: a batch may lie on both
def _order(seed: int, domain: int, epoch: int, count: int) -> Array:
    return np.random.default_rng([_ORDER, seed, domain, epoch]).permutation(count).astype(np.int32)


def augment(array: Array, config: DataConfig, rng: np.random.Generator) -> Array:
    """Random crop and mirroring of a resized (H, W, C) array; the same draws whatever the size."""
    vertical, horizontal, mirror = rng.random(3)
    if config.crops:
        top = int(vertical * (array.shape[0] - config.crop_size + 1))
        left = int(horizontal * (array.shape[1] - config.crop_size + 1))
        array = array[top : top + config.crop_size, left : left + config.crop_size]
    if config.flip and mirror < 0.5:
        array = array[:, ::-1]
    return array


def held_out_tensor(path: Path, image_format: ImageFormat, data: DataConfig, model: ModelConfig) -> Tensor:
    """An image for a sample grid, without randomness: the middle crop at the training size, (C, H, W).

    Raises UnreadableError or InputError if the file is damaged, too small, or not of this format.
    """
    array = read_as(path, image_format)
    check_size(path, array.shape[0], array.shape[1], data)
    if data.preprocess == "resize-and-crop":
        array = resize(array, data.crop_size, data.crop_size)
    else:
        array = resize(array, *scaled_size(array.shape[0], array.shape[1], data))
    if data.crops:
        top, left = (array.shape[0] - data.crop_size) // 2, (array.shape[1] - data.crop_size) // 2
        array = array[top : top + data.crop_size, left : left + data.crop_size]
    return pad_to_multiple(to_tensor(array, image_format), model.multiple, model.smallest_crop)

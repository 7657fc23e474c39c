"""Two folders -> the batch of any step. The batch is a pure function of (files, seed, step, slot)."""

import itertools
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from multiprocessing import resource_tracker
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cyclegan.config import DataConfig, InputError, ModelConfig
from cyclegan.data.image_folder import ImageFolder, check_size, scaled_size
from cyclegan.images.codecs import (
    Array,
    ImageFormat,
    UnreadableError,
    list_images,
    mirror_to_multiple,
    pad_to_multiple,
    read_as,
    resize,
    to_signal,
    to_tensor,
)
from cyclegan.system.prefetch import work_ahead

# First entry of the counter-based seeds of the two uses of randomness; the domain is the second.
_ORDER, _AUGMENT = 11, 12

# Batches that wait for their step when this process makes them.
_STEPS_AHEAD = 3

# Names of the four folders below one root, in the order in which they are tried.
_LAYOUTS = (("trainA", "trainB", "testA", "testB"), ("train/A", "train/B", "test/A", "test/B"), ("A", "B", "", ""))


@dataclass(frozen=True)
class Folders:
    """Where the images of a run are; the test folders are optional."""

    a: Path
    b: Path
    test_a: Path | None = None
    test_b: Path | None = None


@dataclass(frozen=True)
class Batch:
    """a, b: (N, C, H, W) in [-1, 1]. `unreadable`: files that had to be passed over to make this batch, and why."""

    a: Tensor
    b: Tensor
    unreadable: tuple[tuple[str, str], ...] = ()

    def pin_memory(self) -> "Batch":
        """Called by torch's loader, so that copies to a GPU need not wait."""
        return replace(self, a=self.a.pin_memory(), b=self.b.pin_memory())


def find_folders(a: Path, b: Path | None = None, test_a: Path | None = None, test_b: Path | None = None) -> Folders:
    """Resolve two folders, or one root that holds trainA and trainB (or train/A and train/B, or A and B).

    Raises InputError if a folder is missing, or if the two are one, contain one another or hold the same images.
    """
    a = Path(a)
    if not a.is_dir():
        raise InputError(f"There is no folder {a}; expected a folder of images.")
    if b is None:
        for layout in _LAYOUTS:
            train_a, train_b, held_a, held_b = (a / name if name else None for name in layout)
            if train_a is not None and train_b is not None and train_a.is_dir() and train_b.is_dir():
                found_a = held_a if held_a is not None and held_a.is_dir() else None
                found_b = held_b if held_b is not None and held_b.is_dir() else None
                folders = Folders(train_a, train_b, test_a or found_a, test_b or found_b)
                break
        else:
            raise InputError(f"{a} holds neither trainA and trainB nor train/A and train/B; give two folders, A and B.")
    else:
        b = Path(b)
        if not b.is_dir():
            raise InputError(f"There is no folder {b}; expected a folder of images.")
        folders = Folders(a, b, test_a, test_b)

    real_a, real_b = folders.a.resolve(), folders.b.resolve()
    if real_a == real_b:
        raise InputError(f"Both domains are the folder {a}; a translator needs two different ones.")
    if real_a in real_b.parents or real_b in real_a.parents:
        raise InputError(f"{folders.a} and {folders.b} lie one inside the other, so the domains would share images.")
    for held in (folders.test_a, folders.test_b):
        if held is not None and not held.is_dir():
            raise InputError(f"There is no folder {held}; expected held-out images.")
    if _same_contents(folders.a, folders.b):
        raise InputError(f"{folders.a} and {folders.b} hold the same images; a translator needs two different domains.")
    return folders


def holds_domains(root: Path) -> bool:
    """Whether a folder is a root that `find_folders` can resolve by itself."""
    return any((root / layout[0]).is_dir() and (root / layout[1]).is_dir() for layout in _LAYOUTS)


def _same_contents(a: Path, b: Path) -> bool:
    files_a, files_b = list_images(a), list_images(b)
    if not files_a or len(files_a) != len(files_b):
        return False
    # Most folders differ in their first file.
    if any(one.stat().st_size != other.stat().st_size for one, other in zip(files_a, files_b, strict=True)):
        return False
    return all(one.read_bytes() == other.read_bytes() for one, other in zip(files_a, files_b, strict=True))


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


def batches(
    dataset: UnpairedDataset, first_step: int, num_workers: int, *, pin_memory: bool = False
) -> Generator[Batch, None, None]:
    """The batches of steps first_step, first_step + 1, ... without end, made a few steps ahead.

    num_workers: processes that make them; 0: one thread of this process. Where this generator is closed they end.
    pin_memory: for a training on CUDA, which copies faster from there; anywhere else it would start CUDA for nothing.
    """
    if num_workers == 0:
        ahead = work_ahead(
            dataset.__getitem__,
            itertools.count(first_step),
            num_threads=1,
            most_items=_STEPS_AHEAD,
            size_of=lambda batch: batch.a.nbytes + batch.b.nbytes,
        )
        try:
            for _, future in ahead:
                batch = future.result()
                yield batch.pin_memory() if pin_memory else batch
        finally:
            ahead.close()
        return
    # Each process keeps a cache of its own.
    shared = replace(dataset, cache_bytes=dataset.cache_bytes // num_workers, _cache={}, _cached_bytes=0)
    steps = itertools.count(first_step)
    loader = DataLoader(
        shared,
        sampler=steps,
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin_memory,
        multiprocessing_context="spawn",
        worker_init_fn=_ignore_interrupts,
    )
    with _interrupts_held():
        source = iter(loader)
    yield from source


# A terminal sends Ctrl-C to every process; the training process decides what it means.


def _ignore_interrupts(_worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes that start here never see Ctrl-C, not even before `_ignore_interrupts` is called there."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    # Its start would unblock the signal again, and it is started with the first process.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

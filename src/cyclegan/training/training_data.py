"""Prepare the data of a run: two folders of images, or batches that the caller makes."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from cyclegan.config import TrainConfig
from cyclegan.data.dataset import Batch, UnpairedDataset
from cyclegan.data.domains import find_folders
from cyclegan.data.image_folder import scan_folder
from cyclegan.data.loader import batches as folder_batches
from cyclegan.data.splits import SampleImages, split_domains
from cyclegan.errors import InputError
from cyclegan.images.formats import ImageFormat
from cyclegan.images.headers import HeaderIndex
from cyclegan.system.messages import Messages
from cyclegan.training.batch_source import BatchSource, own_batches, own_formats, own_samples, own_steps_per_epoch
from cyclegan.training.resume import check_place
from cyclegan.training.validation import Validation


@dataclass(frozen=True)
class TrainingData:
    """The images of a run, from two folders or from the caller.

    load: gives the batches from a step on, without end. steps_per_epoch: None if it is not known. validation: None for
    no scores. description: sentences to show. unreadable: files that are left out, and why. indices: what is known of
    the headers of files, to be kept in these files of the run directory.
    """

    format_a: ImageFormat
    format_b: ImageFormat
    load: Callable[[int], Generator[Batch, None, None]]
    steps_per_epoch: int | None
    samples: SampleImages
    validation: Validation | None
    description: tuple[str, ...]
    unreadable: tuple[tuple[Path, str], ...]
    indices: Mapping[Path, HeaderIndex]


def data_of_folders(config: TrainConfig, device: torch.device, messages: Messages, *, fresh: bool) -> TrainingData:
    """Look at every image of both folders and split them. Raises InputError for images that cannot be used."""
    if config.a is None:
        again = ", or --resume to continue the run in it with its own" if (config.out / "config.toml").is_file() else ""
        raise InputError(
            f"No folder of images was given for {config.out}; pass two folders, or one that holds trainA and trainB"
            f"{again}. In Python, train(batches=...) takes batches instead."
        )
    folders = find_folders(config.a, config.b, config.test_a, config.test_b)
    check_place(config.out, (folders.a, folders.b, folders.test_a, folders.test_b), fresh=fresh)

    # Headers of files that were read by an earlier session are not read again.
    indices = {path: HeaderIndex.load(path) for path in (config.out / ".headers_a.npz", config.out / ".headers_b.npz")}
    index_a, index_b = indices.values()
    model, data = config.model, config.data
    with messages.status("Looking at the images ...") as status:

        def show(count: int) -> None:
            status.update(f"Looking at the images ... {count:,}")

        whole_a = scan_folder(folders.a, model.channels_a, data.range_a, data, index=index_a, on_files=show)
        whole_b = scan_folder(folders.b, model.channels_b, data.range_b, data, index=index_b, on_files=show)

    a, b, samples, validation = split_domains(config, folders, whole_a, whole_b)
    description = []
    for name, whole, folder in (("A", whole_a, a), ("B", whole_b, b)):
        held = len(whole) - len(folder)
        apart = f", and {held} held out" if held else ""
        description.append(f"{name}: {len(folder)} images to train on{apart}, in {folder.root} ({folder.image_format})")
    description.append(f"Samples: {len(samples.a)} images of A and {len(samples.b)} of B, {samples.origin}")
    if config.num_validation > 0:
        counts = len(validation.a), len(validation.b)
        description.append(f"Scores: from {counts[0]} images of A and {counts[1]} of B, {validation.origin}")

    cache_bytes = int(data.cache_gib * 2**30)
    dataset = UnpairedDataset(a, b, data, model, config.batch_size, config.seed, cache_bytes=cache_bytes)
    return TrainingData(
        format_a=a.image_format,
        format_b=b.image_format,
        load=partial(folder_batches, dataset, num_workers=config.workers, pin_memory=device.type == "cuda"),
        steps_per_epoch=dataset.steps_per_epoch,
        samples=samples,
        validation=Validation(config, validation, a, b, device) if config.num_validation > 0 else None,
        description=tuple(description),
        unreadable=(*a.unreadable, *b.unreadable, *samples.unreadable),
        indices=indices,
    )


def data_of_batches(config: TrainConfig, source: BatchSource, *, fresh: bool) -> TrainingData:
    """Describe the batches of the caller. Raises InputError for settings that do not fit them."""
    if not callable(getattr(source, "batch", None)):
        raise InputError(f"batches is a {type(source).__name__}; expected an object with a method batch(step).")
    given = [name for name in ("a", "b", "test_a", "test_b") if getattr(config, name) is not None]
    if given:
        raise InputError(f"{' and '.join(given)} and batches were given; pass folders or batches, not both.")
    if config.workers > 0:
        raise InputError(f"workers is {config.workers}, but batches come from their own source; leave workers out.")
    check_place(config.out, (), fresh=fresh)
    format_a, format_b = own_formats(source, config)
    samples = own_samples(source, config)
    description = (
        f"Batches: from {type(source).__name__}. Resuming is exact only if batch(step) depends on the step alone.",
        f"Samples: {len(samples.a)} images of A and {len(samples.b)} of B, {samples.origin}"
        if samples.a or samples.b
        else "Samples: none, because batches have no sample_images",
        "Scores: none, because no images are held out of batches; cyclegan evaluate scores the run on test images",
    )
    return TrainingData(
        format_a=format_a,
        format_b=format_b,
        load=partial(own_batches, source, config),
        steps_per_epoch=own_steps_per_epoch(source, config),
        samples=samples,
        validation=None,
        description=description,
        unreadable=(),
        indices={},
    )

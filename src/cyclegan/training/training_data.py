"""Prepare the data of a run: two folders of images, or batches that the caller makes."""

import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch

from cyclegan.config import MIN_VALIDATION, TrainConfig
from cyclegan.data.dataset import Batch, UnpairedDataset
from cyclegan.data.domains import Folders, find_folders
from cyclegan.data.image_folder import ImageFolder, scan_folder
from cyclegan.data.image_history import ImageHistory, follow_images
from cyclegan.data.image_order import Stretch
from cyclegan.data.known_images import KnownImages
from cyclegan.data.loader import batches as folder_batches
from cyclegan.data.splits import DomainSplit, SampleImages, Split, ValidationImages, count_shared, split_domains
from cyclegan.datasets.slide_tiles import tiles_mpp
from cyclegan.errors import InputError
from cyclegan.images.file_list import describe_left_out, evenly_spaced
from cyclegan.images.formats import ImageFormat
from cyclegan.images.headers import HeaderIndex
from cyclegan.images.identical import find_identical
from cyclegan.images.near_copies import near_copies
from cyclegan.images.remote import local_copy
from cyclegan.images.thumbnails import read_thumbnails
from cyclegan.step.sharing import Share
from cyclegan.system.messages import Messages
from cyclegan.system.terminal import shell_quote
from cyclegan.system.words import counted
from cyclegan.training.batch_source import BatchSource, own_batches, own_formats, own_samples, own_steps_per_epoch
from cyclegan.training.resume import check_place
from cyclegan.training.validation import Validation

# Of each domain, images that are searched for near copies: at most so many held-out ones and so many training ones. The
# seconds are for files that decode slowly, and for slow drives; reading takes nearly all of the time.
_MOST_COMPARED, _HELD_OUT_SECONDS, _TRAINING_SECONDS = 1000, 2, 8


@dataclass(frozen=True)
class Batches:
    """The batches of a session.

    load: gives them from a step on, without end. steps_per_epoch: None if it is not known. epochs_before: a step, and
    the epochs that were done by then, counted with the images of that time. known: the images of each domain, where
    they changed, to be kept in these files of the run directory.
    """

    load: Callable[[int], Generator[Batch, None, None]]
    steps_per_epoch: int | None
    epochs_before: tuple[int, Fraction] = (0, Fraction(0))
    known: Mapping[Path, KnownImages] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingData:
    """The images of a run, from two folders or from the caller.

    begin: gives the batches of a session that begins after a step. validation: None for no scores. description:
    sentences to show. changes: sentences on images that changed since the session before. unreadable: files that
    are left out, and why. digest: of the names and sizes of all images. indices: what is known of the headers of
    files, to be kept in these files of the run directory.
    """

    format_a: ImageFormat
    format_b: ImageFormat
    begin: Callable[[int], Batches]
    samples: SampleImages
    validation: Validation | None
    description: tuple[str, ...]
    changes: tuple[str, ...]
    unreadable: tuple[tuple[Path, str], ...]
    indices: Mapping[Path, HeaderIndex]
    digest: str = ""


def data_of_folders(
    config: TrainConfig, device: torch.device, share: Share, messages: Messages, *, fresh: bool
) -> TrainingData:
    """Look at every image of both folders and split them. Raises InputError for images that cannot be used."""
    if config.a is None:
        again = ", or --resume to continue the run in it with its own" if (config.out / "config.toml").is_file() else ""
        raise InputError(
            f"No folder of images was given for {config.out}; pass two folders, or one that holds trainA and trainB"
            f"{again}. In Python, train(batches=...) takes batches instead."
        )
    given = config.a, config.b, config.test_a, config.test_b
    folders = find_folders(*(path and local_copy(path, messages.info) for path in given))  # type: ignore[arg-type]
    check_place(config.out, (folders.a, folders.b, folders.test_a, folders.test_b), fresh=fresh)

    # Headers of files that were read by an earlier session are not read again.
    indices = {path: HeaderIndex.load(path) for path in (config.out / ".headers_a.npz", config.out / ".headers_b.npz")}
    whole_a, whole_b = _scan(config, folders, indices, messages)

    # Split them as the session before, if there is one.
    files = config.out / ".images_a.npz", config.out / ".images_b.npz"
    is_new = fresh or not (config.out / "config.toml").is_file()
    known_a, known_b = (None, None) if is_new else (_load_known(file, messages) for file in files)
    leave_copies_out = is_new or known_a is not None or known_b is not None
    split = split_domains(
        config, folders, whole_a, whole_b, known=(known_a, known_b), leave_copies_out=leave_copies_out
    )
    a, b, samples, validation = split.a.training, split.b.training, split.samples, split.validation
    histories = (
        follow_images("A", whole_a, split.a, validation.a, known_a, config),
        follow_images("B", whole_b, split.b, validation.b, known_b, config),
    )
    changes = tuple(history.changes for history in histories if history.changes)

    # Say what would make scores look better than they are.
    if share.processes.is_first:
        if not leave_copies_out:
            _warn_of_kept_copies(split, messages)
        if is_new and (split.a.held or split.b.held):
            _warn_of_near_copies(config, folders, split, messages)
        if known_a is None or changes:  # of the same images an earlier session has said it
            _warn_of_shared_test_images(folders, split, messages)

    cache_bytes = int(config.data.cache_gib * 2**30)
    # Loading processes need none of what is known of the files.
    light_a, light_b = (replace(each, keys=each.keys[:0], num_bytes=each.num_bytes[:0]) for each in (a, b))
    dataset = UnpairedDataset(
        light_a,
        light_b,
        config.data,
        config.model,
        config.batch_size,
        config.seed,
        cache_bytes=cache_bytes,
        part=share.part,
        parts=share.parts,
    )
    for domain, part in enumerate((samples.a, samples.b)):
        if config.num_samples and not part:  # such as sprites, which are mostly transparent
            dataset.check(domain)
    return TrainingData(
        format_a=a.image_format,
        format_b=b.image_format,
        begin=partial(_begin, config, dataset, histories, files, device),
        samples=samples,
        validation=Validation(config, validation, a, b, device, share.processes) if config.num_validation > 0 else None,
        description=_describe(config, split),
        changes=changes,
        unreadable=(*a.unreadable, *b.unreadable, *samples.unreadable),
        indices=indices,
        digest="" if share.is_whole else _digest(a, b, validation),
    )


def _digest(a: ImageFolder, b: ImageFolder, validation: ValidationImages) -> str:
    """Equal for processes that train on the same images in the same order."""
    digest = hashlib.sha256(validation.digest.encode())
    for folder in (a, b):
        digest.update("\0".join(folder.paths.names()).encode(errors="surrogateescape"))
        digest.update(folder.num_bytes.tobytes())
    return digest.hexdigest()


def _scan(
    config: TrainConfig, folders: Folders, indices: Mapping[Path, HeaderIndex], messages: Messages
) -> tuple[ImageFolder, ImageFolder]:
    """The images of both folders. indices: of A and B."""
    index_a, index_b = indices.values()
    model, data = config.model, config.data
    with messages.status("Looking at the images ...") as status:

        def scan(
            domain: str, folder: Path, channels: int, value_range: tuple[float, float] | None, index: HeaderIndex
        ) -> ImageFolder:
            # Whole slides are translated at the scale of the tiles that are trained on.
            reading = data.reading(domain).replace(mpp=tiles_mpp(folder))
            return scan_folder(
                folder, channels, value_range, data, reading=reading, domain=domain, index=index, on_files=show
            )

        def show(count: int) -> None:
            status.update(f"Looking at the images ... {count:,}")

        return (
            scan("a", folders.a, model.channels_a, data.range_a, index_a),
            scan("b", folders.b, model.channels_b, data.range_b, index_b),
        )


def _load_known(file: Path, messages: Messages) -> KnownImages | None:
    """The images of the session before, or None."""
    known = KnownImages.load(file)
    if known is None and file.is_file():
        messages.warning(f"{file} cannot be read, so images that changed since the last session are not noticed.")
    return known


def _describe(config: TrainConfig, split: Split) -> tuple[str, ...]:
    """Sentences on how the images are used."""
    sentences = []
    for name, part in (("A", split.a), ("B", split.b)):
        held, copies, folder = len(part.held), len(part.copies), part.training
        apart = f", and {held} held out" if held else ""
        others = "other slices of their volumes" if part.holds_slices else "exact copies of them"
        apart += f" with {copies} {others}" if copies else ""
        sentences.append(f"{name}: {len(folder)} images to train on{apart}, in {folder.root} ({folder.image_format})")
        if folder.num_empty:
            slices = counted(folder.num_empty, "slice")
            sentences.append(f"{name}: {slices} of a single value, such as air, are passed over")
        for number in folder.replaced_nodata:
            flag = f"--nodata-{name.lower()}"
            sentences.append(
                f"{name}: files name {number:.9g} for holes, and {flag} replaces it; leave it out to take theirs"
            )
        if left_out := describe_left_out(folder.other_files):
            sentences.append(f"{name}: {left_out[:-1]} (no images)")
    samples, validation = split.samples, split.validation
    sentences.append(f"Samples: {len(samples.a)} images of A and {len(samples.b)} of B, {samples.origin}")
    if config.num_validation > 0:
        counts = len(validation.a), len(validation.b)
        sentences.append(f"Scores: from {counts[0]} images of A and {counts[1]} of B, {validation.origin}")
    return tuple(sentences)


def _warn_of_kept_copies(split: Split, messages: Messages) -> None:
    for name, part in (("A", split.a), ("B", split.b)):
        shared = find_identical(part.held, part.training.paths, part.training.num_bytes)
        if shared:
            messages.warning(
                f"{len(shared)} training images of {name} are exact copies of images that are held out. This run "
                "began with them and keeps them; a new one leaves them out."
            )


def _warn_of_shared_test_images(folders: Folders, split: Split, messages: Messages) -> None:
    for name, test, part in (("A", folders.test_a, split.a), ("B", folders.test_b, split.b)):
        num_shared, count = (0, 0) if test is None else count_shared(test, part.training)
        if num_shared:
            messages.warning(f"{num_shared} of the {count} test images of {name} are exact copies of training images.")


def _warn_of_near_copies(config: TrainConfig, folders: Folders, split: Split, messages: Messages) -> None:
    with messages.status("Comparing held-out images ..."):
        found = [
            _near_copies_of_held_out(name, part, config, folders) for name, part in (("A", split.a), ("B", split.b))
        ]
    for sentence in found:
        if sentence:
            messages.warning(sentence)


def _near_copies_of_held_out(name: str, split: DomainSplit, config: TrainConfig, folders: Folders) -> str:
    """A sentence on the held-out images that have near copies among the training images; empty if none is found.

    Of large folders only a part is looked at.
    """
    paths, image_format = split.training.paths, split.training.image_format
    held, held_thumbnails = read_thumbnails(_spread(split.held), image_format, _HELD_OUT_SECONDS)
    if not held:
        return ""
    trained, thumbnails = read_thumbnails(_spread(paths), image_format, _TRAINING_SECONDS)
    near = near_copies(held_thumbnails, thumbnails)
    count = int((near.source >= 0).sum())
    if count == 0:
        return ""
    best = int(near.correlation.argmax())
    copy, of = (path.relative_to(paths.root) for path in (held[best], trained[near.source[best]]))
    compared, total = len(held) + len(trained), len(split.held) + len(paths)
    part = f" ({compared:,} of {total:,} images were compared)" if compared < total else ""
    is_scored = config.num_validation > 0 and len(split.held) >= MIN_VALIDATION
    effect = "validation scores" if is_scored else "samples"
    inspect = f"cyclegan inspect {shell_quote(folders.a)} {shell_quote(folders.b)}"
    other = " or pass test folders" if folders.test_a is None else ""
    return (
        f"{count} of the {len(split.held)} held-out images of {name} {'has' if count == 1 else 'have'} near copies "
        f"among the training images, such as {copy} and {of}{' mirrored' if near.mirrored[best] else ''}{part}, so "
        f"{effect} look better than they are; `{inspect}` lists them all: remove them{other}."
    )


def _spread(paths: Sequence[Path]) -> Iterator[Path]:
    """Paths at equal distances, every 32nd of them first: wherever reading ends, the folder was covered."""
    chosen = evenly_spaced(paths, _MOST_COMPARED)
    return (path for start in range(32) for path in chosen[start::32])


def _begin(
    config: TrainConfig,
    dataset: UnpairedDataset,
    histories: tuple[ImageHistory, ImageHistory],
    files: tuple[Path, Path],
    device: torch.device,
    step: int,
) -> Batches:
    """The batches of a session that begins after `step`, in the order of the images."""
    (known_a, order_a), (known_b, order_b) = (
        history.begin(config, domain, step) for domain, history in enumerate(histories)
    )
    dataset = replace(dataset, orders=(order_a, order_b))
    return Batches(
        load=partial(folder_batches, dataset, num_workers=config.workers, pin_memory=device.type == "cuda"),
        steps_per_epoch=dataset.steps_per_epoch,
        epochs_before=_epochs_before(order_a.stretches, order_b.stretches),
        known={
            file: known
            for file, known, history in zip(files, (known_a, known_b), histories, strict=True)
            if not known.is_like(history.before)
        },
    )


def _epochs_before(a: Sequence[Stretch], b: Sequence[Stretch]) -> tuple[int, Fraction]:
    """The last step at which the images of a domain changed, and the epochs that were done by then."""
    steps = sorted({stretch.step for stretch in (*a, *b)})
    epochs = Fraction(0)
    for step, following in pairwise(steps):
        now = [[stretch for stretch in each if stretch.step <= step][-1] for each in (a, b)]
        steps_per_epoch = -(-max(stretch.num_images for stretch in now) // now[0].batch_size)
        epochs += Fraction(following - step, steps_per_epoch)
    return steps[-1], epochs


def data_of_batches(config: TrainConfig, source: BatchSource, share: Share, *, fresh: bool) -> TrainingData:
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
    batches = Batches(partial(own_batches, source, config, share), own_steps_per_epoch(source, config))
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
        begin=lambda _: batches,
        samples=samples,
        validation=None,
        description=description,
        changes=(),
        unreadable=(),
        indices={},
    )

"""The test images of both domains as they are scored, and the training images that they are compared with."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from cyclegan.config import InputError, TrainConfig
from cyclegan.data import Folders, find_folders
from cyclegan.features import FeatureNetwork
from cyclegan.images import ImageFormat, UnreadableError, list_images, read_image, resize, to_tensor
from cyclegan.scores import FileList
from cyclegan.translate import Translator

# Called once for every image that is done.
Advance: TypeAlias = Callable[[], object]

# The mean image is taken over at most this many training images.
_MEAN_IMAGES = 1000

# Pixels of a batch; larger images come in smaller batches.
_BATCH_PIXELS = 8 * 256 * 256


@dataclass
class DomainImages:
    """The test images of one domain, and training images to compare them with.

    features: (N, D) of the test images, as measured. training: of as many training images. mean: their mean image, or
    None if there are none or their sizes differ. partners: the truth of a test image in the other domain.
    """

    name: str
    root: Path
    paths: list[Path]
    image_format: ImageFormat
    short_side: int | None
    train_root: Path | None = None
    train_paths: list[Path] = field(default_factory=list)
    partners: dict[Path, Path] = field(default_factory=dict)
    features: Tensor = field(default_factory=lambda: torch.empty(0))
    training: Tensor | None = None
    training_used: list[Path] = field(default_factory=list)
    mean: Tensor | None = None
    unreadable: dict[Path, str] = field(default_factory=dict)
    sizes: set[tuple[int, int]] = field(default_factory=set)

    def read(self, path: Path) -> Tensor:
        """(C, H, W) in [-1, 1]. Raises UnreadableError or InputError."""
        array = read_image(path, self.image_format.channels)
        if str(array.dtype) != self.image_format.dtype:
            raise InputError(f"{path} is {array.dtype}; the model was trained on {self.image_format}.")
        if self.short_side is not None:
            scale = self.short_side / min(array.shape[:2])
            array = resize(array, round(array.shape[0] * scale), round(array.shape[1] * scale))
        return to_tensor(array, self.image_format)

    def batches(self, paths: Sequence[Path], batch_size: int) -> Iterator[tuple[list[Path], Tensor]]:
        """All readable images, in order; neighbours of one size together, (N, C, H, W)."""
        waiting: list[tuple[Path, Tensor]] = []
        for path in paths:
            try:
                tensor = self.read(path)
            except (InputError, UnreadableError) as error:
                self.unreadable[path] = str(error)
                continue
            most = max(1, min(batch_size, _BATCH_PIXELS // tensor[0].numel()))
            if waiting and (len(waiting) >= most or waiting[0][1].shape != tensor.shape):
                yield [p for p, _ in waiting], torch.stack([t for _, t in waiting])
                waiting = []
            waiting.append((path, tensor))
        if waiting:
            yield [p for p, _ in waiting], torch.stack([t for _, t in waiting])

    def measure(self, network: FeatureNetwork, batch_size: int, advance: Advance) -> None:
        """Features of the test images; files that cannot be read are left out from here on."""
        features, kept = [], []
        for paths, images in self.batches(self.paths, batch_size):
            features.append(network(images))
            kept += paths
            self.sizes |= {(images.shape[-2], images.shape[-1])}
            for _ in paths:
                advance()
        self.paths = kept
        if len(kept) < 2:
            reason = (
                f" ({len(self.unreadable)} cannot be read: {first_reason(self.unreadable)})" if self.unreadable else ""
            )
            raise InputError(
                f"{self.root} holds {len(kept)} readable image{'s' * (len(kept) != 1)}{reason}; "
                "scores of sets of images need at least 2."
            )
        self.features = torch.cat(features)

    def num_training(self, count: int, mean: bool) -> int:
        """Training images that `measure_training` reads for `count` translations."""
        return min(len(self.train_paths), max(count, _MEAN_IMAGES) if mean else count)

    def measure_training(
        self, network: FeatureNetwork, count: int, batch_size: int, advance: Advance, *, mean: bool
    ) -> None:
        """Features of `count` training images at equal distances, and the mean of up to a thousand."""
        read = _spread(self.train_paths, self.num_training(count, mean))
        chosen = set(_spread(read, min(count, len(read))))
        features, total, num_images = [], None, 0
        same_size = True
        for paths, images in self.batches(read, batch_size):
            wanted = [i for i, path in enumerate(paths) if path in chosen]
            if wanted:
                features.append(network(images[wanted]))
                self.training_used += [paths[i] for i in wanted]
            if mean and same_size:
                same_size = total is None or total.shape == images.shape[1:]
                if same_size:
                    total = images.sum(0) if total is None else total + images.sum(0)
                    num_images += len(images)
            for _ in paths:
                advance()
        if sum(map(len, features)) >= 2:
            self.training = torch.cat(features)
        if total is not None and same_size:
            self.mean = total / num_images


def find_domains(
    config: TrainConfig | None, a: str | Path | None, b: str | Path | None, model: Translator, short_side: int | None
) -> tuple[DomainImages, DomainImages]:
    """Both domains with their files listed. Raises InputError if a folder is missing, empty, or given twice."""
    trained = _training_folders(config)
    domains = []
    for name, given, image_format in (("A", a, model.info.a), ("B", b, model.info.b)):
        held = train = None
        if trained is not None:
            held, train = (trained.test_a, trained.a) if name == "A" else (trained.test_b, trained.b)
        root = Path(given) if given is not None else held
        if root is None:
            raise InputError(
                f"No test images of domain {name}: the run has no test folder. Give one with --{name.lower()} DIR."
            )
        if not root.is_dir():
            raise InputError(f"There is no folder {root}; expected test images of domain {name}.")
        paths = list_images(root)
        if not paths:
            raise InputError(f"{root} holds no images; expected test images of domain {name}.")
        domain = DomainImages(name, root, paths, image_format, short_side)
        if train is not None and train.is_dir():
            domain.train_root, domain.train_paths = train, list_images(train)
        domains.append(domain)
    first, second = domains
    if first.root.resolve() == second.root.resolve():
        raise InputError(f"Both test folders are {first.root}; give images of domain A and of domain B.")
    return first, second


def _training_folders(config: TrainConfig | None) -> Folders | None:
    """The folders of the run, as far as they are still there."""
    if config is None or config.a is None:
        return None
    try:
        return find_folders(config.a, config.b, config.test_a, config.test_b)
    except InputError:  # moved away: scores are then without their floor, which is said
        return None


def match_pairs(a: DomainImages, b: DomainImages) -> None:
    """Fill in the partners of all test images. Raises InputError unless every image has exactly one."""
    if len(a.paths) != len(b.paths):
        raise InputError(
            f"{a.root} holds {len(a.paths)} images and {b.root} {len(b.paths)}; "
            "paired scores need one of B for each of A. Leave out --paired if they are not pairs."
        )
    names_a, names_b = ({_pair_name(domain, path): path for path in domain.paths} for domain in (a, b))
    for domain, other, names, others in ((a, b, names_a, names_b), (b, a, names_b, names_a)):
        if len(names) < len(domain.paths):
            raise InputError(
                f"{domain.root} holds images of the same name with different suffixes; pairs need one each."
            )
        missing = sorted(names.keys() - others.keys())
        if missing:
            raise InputError(
                f"{names[missing[0]]} has no partner of the same name in {other.root} "
                f"({len(missing)} of {len(names)} have none); rename the files, or leave out --paired."
            )
    a.partners = {path: names_b[name] for name, path in names_a.items()}
    b.partners = {path: names_a[name] for name, path in names_b.items()}


def _pair_name(domain: DomainImages, path: Path) -> str:
    """The name that both images of a pair share: without the suffix, and without an ending _A or _B."""
    name = path.relative_to(domain.root).with_suffix("").as_posix()
    return re.sub(rf"[_-]{domain.name}$", "", name, flags=re.IGNORECASE)


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    """`count` of the paths, at equal distances."""
    return [paths[i * len(paths) // count] for i in range(count)]


def first_reason(unreadable: dict[Path, str]) -> str:
    path, reason = next(iter(unreadable.items()))
    return f"{path.name}: {reason}"


def file_lists(domains: tuple[DomainImages, DomainImages]) -> dict[str, FileList]:
    lists: dict[str, FileList] = {}
    for domain in domains:
        key = domain.name.lower()
        lists[f"test_{key}"] = _file_list(domain.root, domain.paths)
        if domain.train_root is not None and domain.training_used:
            lists[f"train_{key}"] = _file_list(domain.train_root, domain.training_used)
    return lists


def _file_list(root: Path, paths: Sequence[Path]) -> FileList:
    names = (path.relative_to(root).as_posix() for path in paths)
    # Names that are not valid UTF-8 could not be written to JSON.
    return FileList(root=str(root), files=tuple(name.encode(errors="replace").decode() for name in names))

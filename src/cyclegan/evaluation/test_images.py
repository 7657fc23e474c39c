"""The test images of both domains, and the training images that they are compared with."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from cyclegan.config import TrainConfig
from cyclegan.data.domains import find_folders
from cyclegan.data.preprocessing import LEAST_VALID
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.codecs import read_raster
from cyclegan.images.file_list import describe_left_out, evenly_spaced, list_images
from cyclegan.images.formats import ImageFormat
from cyclegan.images.identical import find_identical, sizes_of
from cyclegan.images.pages import is_folder, no_folder
from cyclegan.images.places import check_same_place
from cyclegan.images.raster import is_air
from cyclegan.images.remote import local_copy
from cyclegan.images.resizing import resize_mask, scale
from cyclegan.images.tensors import same_size_batches, to_tensor
from cyclegan.metrics.features import FeaturePanel
from cyclegan.metrics.round_trip import fill
from cyclegan.metrics.spectrum import spectrum_features
from cyclegan.storage.scores import FileList
from cyclegan.system.arguments import real_path
from cyclegan.translate.translator import Translator

# Called with the number of images that are done since the last call.
Advance: TypeAlias = Callable[[int], object]

# The mean image is taken over at most this many training images.
_MEAN_IMAGES = 1000


@dataclass
class TestImages:
    """The test images of one domain, and training images to compare them with.

    features: (N, D) of the test images, once measured. training: (M, D) of as many training images. spectra,
    training_spectra: the same of `spectrum_features`. mean: the mean training image, None if there is none or sizes
    differ. partners: the truth of a test image in the other domain.
    trained_on: test images with the same bytes as a file of the training folder. sizes: height and width of each test
    image as it is scored. clipped: share of an image's values outside the range of the model, for types other than
    8-bit. mostly_hole: images that are left out, and the share of their pixels that has values. with_holes: test images
    that have some and are scored. air: slices of a single value, which are left out, but not from a pair whose other
    image is none. other_files: how many files of the folder are no images, by suffix.
    """

    __test__ = False  # the name is not that of a test

    name: str
    root: Path
    paths: list[Path]
    image_format: ImageFormat
    short_side: int | None
    other_format: ImageFormat | None = None
    train_root: Path | None = None
    train_paths: Sequence[Path] = ()
    trained_on: frozenset[Path] = frozenset()
    partners: dict[Path, Path] = field(default_factory=dict)
    features: Tensor = field(default_factory=lambda: torch.empty(0))
    training: Tensor | None = None
    spectra: Tensor = field(default_factory=lambda: torch.empty(0))
    training_spectra: Tensor | None = None
    training_used: list[Path] = field(default_factory=list)
    mean_used: list[Path] = field(default_factory=list)
    mean: Tensor | None = None
    unreadable: dict[Path, str] = field(default_factory=dict)
    sizes: dict[Path, tuple[int, int]] = field(default_factory=dict)
    clipped: dict[Path, float] = field(default_factory=dict)
    mostly_hole: dict[Path, float] = field(default_factory=dict)
    with_holes: set[Path] = field(default_factory=set)
    air: set[Path] = field(default_factory=set)
    other_files: Mapping[str, int] = field(default_factory=dict)

    def read(self, path: Path) -> tuple[Tensor, Tensor | None]:
        """(C, H, W) in [-1, 1], and its mask, (H, W), bool, False in holes; None without holes.

        Raises UnreadableError or InputError.
        """
        raster = read_raster(path, self.image_format, self.other_format)
        array, valid = raster.values, raster.valid
        if is_air(raster):
            self.air.add(path)
        low, high = self.image_format.low, self.image_format.high
        if array.dtype != np.uint8:
            outside = np.less(array, low) | np.greater(array, high)
            self.clipped[path] = float(np.mean(outside if valid is None else outside[valid] if valid.any() else 0))
        array = scale(array, short_side=self.short_side)
        if valid is not None:
            valid = resize_mask(valid, *array.shape[:2])
        mask = None if valid is None or valid.all() else torch.from_numpy(np.array(valid))
        return to_tensor(array, self.image_format), mask

    def batches(
        self, paths: Sequence[Path], batch_size: int
    ) -> Iterator[tuple[list[Path], Tensor, list[Tensor | None]]]:
        """All usable images, in order, and their masks; neighbours of one size together, (N, C, H, W)."""

        def usable() -> Iterator[tuple[tuple[Path, Tensor | None], Tensor]]:
            for path in paths:
                try:
                    image, mask = self.read(path)
                except (InputError, UnreadableError) as error:
                    self.unreadable[path] = str(error)
                    continue
                share = 1.0 if mask is None else float(mask.float().mean())
                if share < LEAST_VALID:
                    self.mostly_hole[path] = share
                    continue
                if path in self.air and path not in self.partners:  # of a pair the other image decides, too
                    continue
                yield (path, mask), image

        for labels, images in same_size_batches(usable(), batch_size):
            yield [path for path, _ in labels], images, [mask for _, mask in labels]

    def measure(self, network: FeaturePanel, batch_size: int, advance: Advance) -> None:
        """Features of the test images; files that cannot be read are left out from here on."""
        features, spectra = [], []
        for paths, images, masks in self.batches(self.paths, batch_size):
            filled = fill(images, masks)
            features.append(network(filled))
            spectra.append(spectrum_features(filled))
            self.with_holes |= {path for path, mask in zip(paths, masks, strict=True) if mask is not None}
            self.sizes |= dict.fromkeys(paths, (images.shape[-2], images.shape[-1]))
            advance(len(paths))
        self.features, self.spectra = (torch.cat(each) if each else torch.empty(0) for each in (features, spectra))
        self.paths = [path for path in self.paths if path in self.sizes]

    def part(self, paths: list[Path]) -> "TestImages":
        """Some of these images, of which nothing is known yet."""
        partners = {path: self.partners[path] for path in paths if path in self.partners}
        return TestImages(
            self.name, self.root, paths, self.image_format, self.short_side, self.other_format, partners=partners
        )

    def join(self, parts: Sequence["TestImages"]) -> None:
        """Take over what was measured of parts, which are all of these images, in order."""
        self.paths = [path for part in parts for path in part.paths]
        measured = [(part.features, part.spectra) for part in parts if part.paths]
        self.features, self.spectra = map(torch.cat, zip(*measured, strict=True)) if measured else [torch.empty(0)] * 2
        for part in parts:
            self.unreadable |= part.unreadable
            self.sizes |= part.sizes
            self.clipped |= part.clipped
            self.mostly_hole |= part.mostly_hole
            self.with_holes |= part.with_holes
            self.air |= part.air

    def check_usable(self) -> None:
        """Raises InputError if none of the images that were measured can be used."""
        if not self.paths:
            reasons = [f"{len(self.unreadable)} cannot be read: {self.first_reason}"] if self.unreadable else []
            reasons += [f"{len(self.mostly_hole)} are mostly hole"] if self.mostly_hole else []
            reasons += [f"{len(self.air)} have a single value, as slices of air"] if self.air else []
            reason = f" ({'; '.join(reasons)})" if reasons else ""
            raise InputError(f"{self.root} holds 0 readable images{reason}; expected at least 1, better a few hundred.")

    @property
    def first_reason(self) -> str:
        """The first file that cannot be read, and why."""
        path, reason = next(iter(self.unreadable.items()))
        return f"{path.name}: {reason.removeprefix(f'{path} ').removeprefix(f'{path}: ')}"

    def clipping_note(self) -> str:
        """A sentence on values outside the range of the model, or nothing."""
        shares = [share for path in self.paths if (share := self.clipped.get(path, 0.0)) > 0]
        if not shares:
            return ""
        share = 100 * sum(shares) / len(self.paths)
        shown = f"{share:.0f}" if share >= 10 else f"{share:.2g}"
        return (
            f"{len(shares)} of {len(self.paths)} test images of {self.name} hold values outside "
            f"{self.image_format.low:g} to {self.image_format.high:g}, the range of the model ({shown} % of all "
            "values); these count as the nearest end of it."
        )

    def holes_notes(self) -> Iterator[str]:
        """Sentences on holes in the test images, and on those without any content."""
        if number := len(self.with_holes.intersection(self.paths)):
            yield (
                f"{number} of {len(self.paths)} test images of {self.name} {'has' if number == 1 else 'have'} holes "
                "(no data), which count in no score; for features they are filled from around them, in translations as "
                "in real images."
            )
        if self.mostly_hole:
            path, share = next(iter(self.mostly_hole.items()))
            yield (
                f"Test images of {self.name} that are left out, because more than half of their pixels are holes: "
                f"{len(self.mostly_hole)} ({path.name} has values in {share:.0%} of its pixels)."
            )
        if not self.partners and (air := self.air - self.mostly_hole.keys()):
            yield (
                f"Test images of {self.name} that are left out, because they have a single value, as slices of air: "
                f"{len(air)}."
            )

    def num_training(self, count: int, mean: bool) -> int:
        """Training images that `measure_training` reads for `count` translations."""
        return min(len(self.train_paths), max(count, _MEAN_IMAGES) if mean else count)

    def measure_training(
        self, network: FeaturePanel, count: int, batch_size: int, advance: Advance, *, mean: bool
    ) -> None:
        """Features of `count` training images at equal distances, and the mean of up to a thousand."""
        # Another training file stands in for one that cannot be read; it is no test image, so no note names it.
        unreadable, mostly_hole, air = dict(self.unreadable), dict(self.mostly_hole), set(self.air)
        read = evenly_spaced(self.train_paths, self.num_training(count, mean))
        chosen = set(evenly_spaced(read, min(count, len(read))))
        features, spectra, total, counts = [], [], None, None
        same_size = True
        for paths, images, masks in self.batches(read, batch_size):
            wanted = [i for i, path in enumerate(paths) if path in chosen]
            if wanted:
                filled = fill(images[wanted], [masks[i] for i in wanted])
                features.append(network(filled))
                spectra.append(spectrum_features(filled))
                self.training_used += [paths[i] for i in wanted]
            if mean and same_size:
                same_size = total is None or total.shape == images.shape[1:]
                if same_size:
                    if counts is None and any(mask is not None for mask in masks):
                        counts = torch.full(images.shape[2:], len(self.mean_used))
                    if counts is not None:
                        valid = torch.stack([images.new_ones(counts.shape) if m is None else m.float() for m in masks])
                        counts, images = counts + valid.sum(0), images * valid[:, None]
                    total = images.sum(0) if total is None else total + images.sum(0)
                    self.mean_used += paths
            advance(len(paths))
        missing = len(chosen) - len(self.training_used)
        others = [path for path in self.train_paths if path not in chosen] if missing else []
        for paths, images, masks in islice(self.batches(others, 1), missing):
            filled = fill(images, masks)
            features.append(network(filled))
            spectra.append(spectrum_features(filled))
            self.training_used += paths
        self.unreadable, self.mostly_hole, self.air = unreadable, mostly_hole, air
        if sum(map(len, features)) >= 2:
            self.training, self.training_spectra = torch.cat(features), torch.cat(spectra)
        if total is not None and same_size:
            # Where no training image has a value, the mean is the middle of the range.
            self.mean = total / (len(self.mean_used) if counts is None else counts.clamp_min(1))


def find_test_images(
    config: TrainConfig | None,
    a: str | Path | None,
    b: str | Path | None,
    model: Translator,
    short_side: int | None,
    *,
    note: Callable[[str], None] = lambda _: None,
) -> tuple[TestImages, TestImages]:
    """Both domains with their files listed. Raises InputError if a folder is missing, empty, or given twice.

    note: receives a sentence about images that are copied from an address.
    """
    domains = []
    formats = (model.info.a, model.info.b)
    for index, (name, given, (held, train)) in enumerate(zip("AB", (a, b), _folders_of(config, note), strict=True)):
        root = local_copy(Path(given), note) if given is not None else held
        if root is None:
            raise InputError(
                f"No test images of domain {name}: the run has no test folder. Give one with --{name.lower()} DIR."
            )
        if not is_folder(root):
            raise no_folder(root, f"a folder of test images of domain {name}")
        found = list_images(root, formats[index].axis)
        paths = list(found)
        if not paths:
            other = f" ({describe_left_out(found.left_out)[:-1]})" if found.left_out else ""
            raise InputError(f"{root} holds no images{other}; expected test images of domain {name}.")
        domain = TestImages(name, root, paths, formats[index], short_side, formats[1 - index])
        domain.other_files = found.left_out
        if train is not None and is_folder(train):
            files = list_images(train, formats[index].axis)
            domain.train_root, domain.train_paths = train, files
            if real_path(root) == real_path(train):
                domain.trained_on = frozenset(paths)
            else:
                same_bytes = find_identical(paths, files, sizes_of(files))
                domain.trained_on = frozenset(paths[index] for same in same_bytes.values() for index in same)
        domains.append(domain)
    first, second = domains
    if real_path(first.root) == real_path(second.root):
        raise InputError(f"Both test folders are {first.root}; give images of domain A and of domain B.")
    return first, second


def _folders_of(config: TrainConfig | None, note: Callable[[str], None]) -> Sequence[tuple[Path | None, Path | None]]:
    """The test folder and the training folder of A, then of B, of a run; None for what is not known.

    Folders may no longer exist; without training folders the scores have no baseline of real images.
    """
    if config is None or config.a is None:
        return ((None, None), (None, None))
    try:
        folders = find_folders(local_copy(config.a, note), config.b and local_copy(config.b, note))
    except InputError:
        folders = None
    test_a, test_b = (path and local_copy(path, note) for path in (config.test_a, config.test_b))
    if folders is None:
        return ((test_a, None), (test_b, None))
    return ((test_a or folders.test_a, folders.a), (test_b or folders.test_b, folders.b))


def match_pairs(a: TestImages, b: TestImages) -> None:
    """Set the partners of all test images. Raises InputError unless every image has exactly one, in the same place."""
    if len(a.paths) != len(b.paths):
        raise InputError(
            f"{a.root} holds {len(a.paths)} images and {b.root} {len(b.paths)}; "
            "paired scores need one of B for each of A. Leave out --paired if they are not pairs."
        )
    # Equal names first; else without the ending that names the domain, as in x_A.png and x_B.png.
    for ending in ("", r"[_-]{}$"):
        names_a, names_b = ({_stem(of, path, ending): path for path in of.paths} for of in (a, b))
        if names_a.keys() == names_b.keys():
            break
    for domain, other, names, others in ((a, b, names_a, names_b), (b, a, names_b, names_a)):
        if len(names) < len(domain.paths):
            raise InputError(
                f"{domain.root} holds images whose names differ in their suffix alone; pairs need one each."
            )
        missing = sorted(names.keys() - others.keys())
        if missing:
            raise InputError(
                f"{names[missing[0]]} has no partner of the same name in {other.root} "
                f"({len(missing)} of {len(names)} have none); rename the files, or leave out --paired."
            )
    a.partners = {path: names_b[name] for name, path in names_a.items()}
    b.partners = {path: names_a[name] for name, path in names_b.items()}
    for path, partner in a.partners.items():
        check_same_place(path, partner)


def check_pairs(a: TestImages, b: TestImages) -> list[str]:
    """Leave out pairs of which one image cannot be read, or is mostly hole, or both are air. Returns notes on them.

    Raises InputError for a pair of different sizes, or if no pair is left.
    """
    broken = [path for path, partner in a.partners.items() if path in a.unreadable or partner in b.unreadable]
    lost = {domain.name: domain.unreadable.keys() | domain.mostly_hole.keys() for domain in (a, b)}
    holes = sum(path in lost["A"] or partner in lost["B"] for path, partner in a.partners.items()) - len(broken)
    num_air = sum(path in a.air and a.partners[path] in b.air for path in a.paths)
    for one, other in ((a, b), (b, a)):
        partners = [(path, one.partners[path]) for path in one.paths]
        keep = [
            partner not in lost[other.name] and not (path in one.air and partner in other.air)
            for path, partner in partners
        ]
        one.features, one.spectra = one.features[torch.tensor(keep)], one.spectra[torch.tensor(keep)]
        one.paths = [path for path, good in zip(one.paths, keep, strict=True) if good]
    if not a.paths:
        raise InputError(f"No pair of {a.root} and {b.root} can be read; repair the images, or leave out --paired.")
    for path in a.paths:
        partner = a.partners[path]
        if a.sizes[path] != b.sizes[partner]:
            (height, width), (other_height, other_width) = a.sizes[path], b.sizes[partner]
            raise InputError(
                f"{path} is {width}x{height} pixels and its partner {partner.name} {other_width}x{other_height}; "
                "paired images must have the same size."
            )
    notes = [f"{len(broken)} pairs are left out, because one image cannot be read."] if broken else []
    notes += [f"{holes} pairs are left out, because one image is mostly hole."] if holes else []
    return notes + ([f"{num_air} pairs are left out, because both are slices of air."] if num_air else [])


def _stem(domain: TestImages, path: Path, ending: str) -> str:
    """The name below the root without its suffix, and without this ending, a pattern for the name of the domain."""
    name = path.relative_to(domain.root).with_suffix("").as_posix()
    return re.sub(ending.format(domain.name), "", name, flags=re.IGNORECASE)


def file_lists(domains: tuple[TestImages, TestImages]) -> dict[str, FileList]:
    """The images that went into the scores, as they are recorded."""
    lists: dict[str, FileList] = {}
    for domain in domains:
        key = domain.name.lower()
        lists[f"test_{key}"] = _file_list(domain.root, domain.paths)
        if domain.train_root is not None and domain.training_used:
            lists[f"train_{key}"] = _file_list(domain.train_root, domain.training_used)
            if domain.mean is not None:
                lists[f"mean_image_{key}"] = _file_list(domain.train_root, domain.mean_used)
    return lists


def _file_list(root: Path, paths: Sequence[Path]) -> FileList:
    return FileList(
        root=str(real_path(root)).encode(errors="replace").decode(),
        files=tuple(file_name(path, root) for path in paths),
    )


def file_name(path: Path, root: Path) -> str:
    """The name of an image below its folder; one that is not valid UTF-8 could not be written to JSON."""
    return path.relative_to(root).as_posix().encode(errors="replace").decode()

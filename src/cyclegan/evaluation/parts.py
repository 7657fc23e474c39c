"""Score the images in parts, which the processes of a cluster measure, and put their measurements together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch

from cyclegan.evaluation.direction import EvaluationContext, Measurements, measure_translations
from cyclegan.evaluation.test_images import Advance, TestImages
from cyclegan.metrics.features import FeaturePanel
from cyclegan.translate.recipe import Recipe

Part = TypeVar("Part")


@runtime_checkable
class ScoringCluster(Protocol):
    """Processes that measure parts of the test images, see `cyclegan.cluster.scoring_cluster`."""

    def part_size(self, count: int, batch_size: int) -> int:
        """How many of so many images are in a part."""

    def map(
        self, make: Callable[[str], Callable[[Any], Any]], parts: Sequence[Any], sizes: Sequence[int], advance: Advance
    ) -> list[Any]:
        """What a function gives for each part, in order. Each process makes the function for its device.

        sizes: images in each part, for `advance`. Everything is pickled.
        """


def measure_images(
    domain: TestImages, network: FeaturePanel, batch_size: int, cluster: ScoringCluster, advance: Advance
) -> None:
    """`TestImages.measure` by a cluster."""
    parts = _split(domain.paths, cluster.part_size(len(domain.paths), batch_size))
    job = _ImagesJob(_without_files(domain), network.names, batch_size)
    found = cluster.map(job, [domain.part(paths) for paths in parts], list(map(len, parts)), advance)
    domain.join(_without_failures(found, network))


def measure_direction(context: EvaluationContext, advance: Advance, cluster: ScoringCluster) -> Measurements:
    """`measure_translations` of all test images by a cluster."""
    paths = context.source.paths
    parts = _split(paths, cluster.part_size(len(paths), context.batch_size))
    recipes = tuple(
        None if model is None or model.origin is None else Recipe.of(model, str(model.origin.path))
        for model in (context.there, context.back)
    )
    job = _TranslationsJob(
        _without_files(context.source),
        replace(_without_files(context.target), mean=context.target.mean),
        recipes,
        context.network.names,
        context.paired,
        context.batch_size,
        context.seed,
    )
    sizes = list(map(len, parts))
    items = [
        (first, some, {path: context.source.partners[path] for path in some if path in context.source.partners})
        for first, some in zip(accumulate(sizes, initial=0), parts, strict=False)
    ]
    found = cluster.map(job, items, sizes, advance)
    return Measurements.joined(_without_failures(found, context.network))


def _without_failures(found: list[tuple[Part, dict[str, str]]], network: FeaturePanel) -> list[Part]:
    """What processes measured of each part; the networks take over the first failures of theirs."""
    for _, failures in found:
        network.set_failures(failures)
    return [part for part, _ in found]


# The number of the first image of a part, its paths, and their partners in the target.
_Item: TypeAlias = tuple[int, list[Path], dict[Path, Path]]


@dataclass(frozen=True)
class _ImagesJob:
    domain: TestImages
    features: tuple[str, ...]
    batch_size: int

    def __call__(self, device: str) -> Callable[[TestImages], tuple[TestImages, dict[str, str]]]:
        network = FeaturePanel(torch.device(device), self.features)

        def measure(part: TestImages) -> tuple[TestImages, dict[str, str]]:
            part.measure(network, self.batch_size, lambda _: None)
            return part, network.failures

        return measure


@dataclass(frozen=True)
class _TranslationsJob:
    """recipes: of this direction and of the way back, which may be missing. Others: as in `EvaluationContext`."""

    source: TestImages
    target: TestImages
    recipes: tuple[Recipe | None, ...]
    features: tuple[str, ...]
    paired: bool
    batch_size: int
    seed: int

    def __call__(self, device: str) -> Callable[[_Item], tuple[Measurements, dict[str, str]]]:
        network = FeaturePanel(torch.device(device), self.features)
        there, back = (None if recipe is None else recipe.load(device) for recipe in self.recipes)
        assert there is not None

        def measure(item: _Item) -> tuple[Measurements, dict[str, str]]:
            first, paths, partners = item
            source = replace(self.source, partners=partners)
            context = EvaluationContext(
                there.direction, source, self.target, there, back, network, self.paired, self.batch_size, 0, self.seed
            )
            return measure_translations(context, paths, lambda _: None, first=first), network.failures

        return measure


def _without_files(domain: TestImages) -> TestImages:
    """How images are read, without those that there are."""
    return domain.part([])


def _split(paths: list[Path], size: int) -> list[list[Path]]:
    return [paths[first : first + size] for first in range(0, len(paths), size)]

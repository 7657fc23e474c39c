"""Scores while training: is it any good yet, which step is best, and does something go wrong."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cyclegan import metrics
from cyclegan.config import Direction, InputError
from cyclegan.features import FeatureNetwork
from cyclegan.health import Finding, brightness_correlation, check_direction, measure_vitals, thumbnails
from cyclegan.held_out import HeldOut
from cyclegan.images import ImageFormat
from cyclegan.round_trip import round_trip

# Scoring may take this share of the time of a run.
TIME_SHARE = 0.1

# Cheap settings: resamplings of an interval, images of one call.
_NUM_BOOTSTRAP = 200
_BATCH = 8


@dataclass(frozen=True)
class ValidationScores:
    """Scores of both directions at one step. kid: mean of both. findings: what the health checks saw."""

    kid: float
    directions: dict[Direction, dict[str, Any]]
    findings: tuple[Finding, ...]
    seconds: float


@dataclass
class Validation:
    """Scores generators on images held out of the training folders; never on the test folders.

    read: reads the images to score. read_training: reads training images to compare them with, for the floor. a, b:
    formats of the domains. spent: seconds that scoring has taken in this run, earlier sessions included.
    """

    read: Callable[[], HeldOut]
    read_training: Callable[[], tuple[Sequence[Tensor], Sequence[Tensor]]]
    a: ImageFormat
    b: ImageFormat
    device: torch.device
    seed: int
    spent: float = 0.0
    # Predicted seconds of `open` and of one scoring.
    _open_cost: float | None = None
    _cost: float = 0.0
    _images: HeldOut | None = None
    _network: FeatureNetwork | None = None
    _features: dict[str, Tensor] = field(default_factory=dict)

    def affordable(self, a2b: nn.Module, b2a: nn.Module, seconds: float, *, last: bool = False) -> bool:
        """Whether one more scoring, after `seconds` of the run, keeps the time of all under TIME_SHARE of the run's.

        Before the last one, time for another is kept in reserve, so that the end of a run can be scored.
        Raises InputError if scores cannot be had at all: without features, or with fewer than two images of a domain.
        """
        if self._open_cost is None:
            # No scoring is quicker than this; so short a run is not delayed by finding out how long one takes.
            if seconds * TIME_SHARE < 0.5:
                return False
            self._probe(a2b, b2a)
        assert self._open_cost is not None
        wanted = self._open_cost + self._cost * (1 if last else 2)
        return self.spent + wanted <= TIME_SHARE * (seconds + wanted)

    def _probe(self, a2b: nn.Module, b2a: nn.Module) -> None:
        """Predict the costs from one image of each domain."""
        with self._clock():
            self._images = images = self.read()
            for name, found in (("A", images.a), ("B", images.b)):
                if len(found) < 2:
                    raise InputError(f"Scores need at least 2 images of each domain; {name} has {len(found)}.")
            self._network = network = FeatureNetwork(self.device)
            pair = images.a[0][None], images.b[0][None]
            for there, image in ((a2b, pair[0]), (b2a, pair[1])):  # the first calls take longer
                network(image)
                self._run(there, image)
            started = time.monotonic()
            for image in pair:
                network(image)
            middle = time.monotonic()
            for there, image in ((a2b, pair[0]), (b2a, pair[1])):
                self._run(there, image)
            of_features, of_translation = (middle - started) / 2, (time.monotonic() - middle) / 2
            count = len(images.a) + len(images.b)
            self._open_cost = 2 * count * of_features
            self._cost = count * (of_features + 3 * of_translation)

    @contextmanager
    def _clock(self) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.spent += time.monotonic() - started

    def _run(self, network: nn.Module, images: Tensor) -> Tensor:
        with torch.inference_mode():
            translated: Tensor = network(images.to(self.device)).float().cpu()
            return translated

    def open(self) -> dict[str, Any]:
        """Measure the real images. Returns where they are from, how many, and both ends of KID for each direction."""
        with self._clock():
            images, network = self._images, self._network
            assert images is not None  # `affordable` comes first
            assert network is not None
            train_a, train_b = self.read_training()
            real_a, real_b = _features(network, images.a), _features(network, images.b)
            ceiling = self._distance(real_a, real_b)
            floor_b = self._distance(_features(network, train_b), real_b)
            floor_a = self._distance(_features(network, train_a), real_a)
            self._features = {"a": real_a, "b": real_b}
            self._open_cost = 0.0
        return {
            "origin": images.origin,
            "num_images": {"a": len(images.a), "b": len(images.b)},
            "directions": {
                "a2b": {"floor": floor_b, "ceiling": ceiling},
                "b2a": {"floor": floor_a, "ceiling": ceiling},
            },
        }

    def charge(self, seconds: float) -> None:
        """Count what was done with the last scores as part of their cost, such as making a page of them."""
        self.spent += seconds
        self._cost += seconds

    @property
    def unreadable(self) -> tuple[tuple[Path, str], ...]:
        """Files that were to be scored and could not be read."""
        return self._images.unreadable if self._images is not None else ()

    @property
    def is_open(self) -> bool:
        return bool(self._features)

    def score(self, a2b: nn.Module, b2a: nn.Module) -> ValidationScores:
        """Translate all images there and back, and score both directions. The generators are in evaluation mode."""
        before = self.spent
        with self._clock():
            assert self._images is not None
            a, b = self._images.a, self._images.b
            scores_a2b, findings_a2b = self._score(
                "a2b", a, b, partial(self._run, a2b), partial(self._run, b2a), self.b
            )
            scores_b2a, findings_b2a = self._score(
                "b2a", b, a, partial(self._run, b2a), partial(self._run, a2b), self.a
            )
        self._cost = self.spent - before
        kid = (scores_a2b["kid"]["value"] + scores_b2a["kid"]["value"]) / 2
        return ValidationScores(kid, {"a2b": scores_a2b, "b2a": scores_b2a}, (*findings_a2b, *findings_b2a), self._cost)

    def _score(
        self,
        direction: Direction,
        reals: Sequence[Tensor],
        targets: Sequence[Tensor],
        there: Callable[[Tensor], Tensor],
        back: Callable[[Tensor], Tensor],
        target: ImageFormat,
    ) -> tuple[dict[str, Any], list[Finding]]:
        assert self._network is not None
        features, outputs, changes, brightness, edges = [], [], [], [], []
        cycle, cycle_noisy = 0.0, 0.0
        done = 0
        for batch in _batches(reals):
            trip = round_trip(batch, there, back, target, seed=self.seed, first=done)
            features.append(self._network(trip.fake))
            outputs.append(thumbnails(trip.fake))
            for i, real in enumerate(batch):
                cycle += metrics.l1(trip.cycled[i], real) / len(reals)
                cycle_noisy += metrics.l1(trip.cycled_noisy[i], real) / len(reals)
                if real.shape == trip.fake[i].shape:
                    changes.append(metrics.l1(trip.fake[i], real))
                brightness.append(brightness_correlation(real, trip.fake[i]))
                edges.append(metrics.edge_correlation(real, trip.fake[i]))
            done += len(batch)
        vitals = measure_vitals(
            torch.cat([thumbnails(real[None]) for real in reals]),
            torch.cat(outputs),
            torch.cat([thumbnails(real[None]) for real in targets]),
            changes=changes,
            brightness=[value for value in brightness if value is not None],
            cycle=cycle,
            cycle_noisy=cycle_noisy,
        )
        kept = [value for value in edges if value is not None]
        scores = {
            "kid": self._distance(torch.cat(features), self._features["b" if direction == "a2b" else "a"]),
            "cycle": cycle,
            "cycle_noisy": cycle_noisy,
            "edges": sum(kept) / len(kept) if kept else None,
        }
        return scores, check_direction(direction, vitals)

    def _distance(self, x: Tensor, y: Tensor) -> dict[str, float]:
        value, low, high = metrics.kernel_distance(x, y, num_bootstrap=_NUM_BOOTSTRAP, seed=self.seed)
        return {"value": value, "low": low, "high": high}


def _batches(images: Sequence[Tensor]) -> Iterator[Tensor]:
    """(N, C, H, W): neighbours of one size together."""
    waiting: list[Tensor] = []
    for image in images:
        if waiting and (len(waiting) == _BATCH or waiting[0].shape != image.shape):
            yield torch.stack(waiting)
            waiting = []
        waiting.append(image)
    if waiting:
        yield torch.stack(waiting)


def _features(network: FeatureNetwork, images: Sequence[Tensor]) -> Tensor:
    return torch.cat([network(batch) for batch in _batches(images)])

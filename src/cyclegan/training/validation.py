"""Score the generators on validation images during training, to choose the best step and to find problems."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cyclegan.config import Direction, TrainConfig
from cyclegan.data.image_folder import ImageFolder
from cyclegan.data.preprocessing import Sample
from cyclegan.data.splits import ValidationImages, read_held_out
from cyclegan.errors import InputError
from cyclegan.images.formats import ImageFormat
from cyclegan.images.tensors import same_size_batches
from cyclegan.metrics.features import FeatureNetwork
from cyclegan.metrics.functions import kernel_distance, l1
from cyclegan.metrics.round_trip import fill, round_trip
from cyclegan.metrics.spectrum import spectrum_features
from cyclegan.metrics.table import METRICS, failure_reason, finite, measure_image
from cyclegan.system.clock import working_time
from cyclegan.system.processes import ALONE, Processes
from cyclegan.training.health import (
    Finding,
    Vitals,
    check_direction,
    diversity,
    inversions,
    pattern,
    plane_correlations,
    thumbnails,
)

# Scoring may take this share of a run's time.
TIME_SHARE = 0.1

# Cheap settings: resamplings for an interval, images in one call.
_NUM_BOOTSTRAP = 200
_BATCH = 8

# Predictions of time are multiplied by this, for what they leave out and for a busy machine.
CAUTION = 1.5

# KID cannot tell two domains apart whose distance is at most this much above that of one domain.
_LEAST_SCALE = 0.02


@dataclass(frozen=True)
class ValidationScores:
    """Scores of both directions at one step. kid: the mean of both. findings: of the health checks."""

    kid: float
    directions: dict[Direction, dict[str, Any]]
    findings: tuple[Finding, ...]


@dataclass
class Validation:
    """Scores generators on validation images, which come from the training folders, never from the test folders.

    files: the validation images. folder_a, folder_b: the training folders. processes: share out the translations; all
    of them call `open` and `score` at once, and get the same results. spent: seconds that scoring, and what
    belongs to it, has taken in this run, earlier sessions included.
    """

    config: TrainConfig
    files: ValidationImages
    folder_a: ImageFolder
    folder_b: ImageFolder
    device: torch.device
    processes: Processes = ALONE
    spent: float = 0.0
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    # Predicted seconds of `open` and of one scoring.
    _open_cost: float | None = None
    _cost: float = 0.0
    _images: tuple[Sequence[Sample], Sequence[Sample]] | None = None
    _network: FeatureNetwork | None = None
    _features: dict[str, Tensor] = field(default_factory=dict)
    _spectra: dict[str, Tensor] = field(default_factory=dict)
    _baselines: dict[str, dict[str, Any]] = field(default_factory=dict)

    def affordable(self, a2b: nn.Module, b2a: nn.Module, seconds: float, *, last: bool = False) -> bool:
        """Whether one more scoring, after `seconds` of the run, keeps all of them under TIME_SHARE of the run's time.

        Before the last one, time for another is kept in reserve, so that the end of a run can be scored.
        Raises InputError if scoring is impossible: without features, or with fewer than two images of a domain.
        """
        if self._open_cost is None:
            # No scoring is quicker than this, so do not delay a short run by measuring.
            if seconds * TIME_SHARE < 0.5:
                return False
            self._probe(a2b, b2a)
        assert self._open_cost is not None
        wanted = self._open_cost + self._cost * (1 if last else 1 + CAUTION)
        return self.spent + wanted <= TIME_SHARE * (seconds + wanted)

    def _probe(self, a2b: nn.Module, b2a: nn.Module) -> None:
        """Predict the costs from one image of each domain."""
        with self.clock():
            self._network = FeatureNetwork(self.device)
            reading = working_time()
            pair = self._read(self.files.a, self.files.b, 1)
            of_reading = (working_time() - reading) / 2
            for name, found in (("A", pair[0]), ("B", pair[1])):
                if not found:
                    raise InputError(f"Scores need at least 2 images of each domain; {name} has none that can be read.")
            self._look(pair, a2b, b2a)  # the first calls take longer
            started = working_time()
            self._look(pair, a2b, b2a)
            each = (working_time() - started) / 2
            measuring = working_time()
            for images in pair:
                self._network(images[0].image[None])
                spectrum_features(images[0].image[None])
            of_features = (working_time() - measuring) / 2
            scored = len(self.files.a) + len(self.files.b)
            trained = len(self.files.trained_a) + len(self.files.trained_b)
            self._open_cost = CAUTION * (scored + trained) * (of_reading + of_features)
            self._cost = CAUTION * scored * each

    def _look(self, pair: tuple[Sequence[Sample], Sequence[Sample]], a2b: nn.Module, b2a: nn.Module) -> None:
        """Measure one image of each domain."""
        self._measure_some(pair[0][:1], 0, a2b, b2a, self.folder_b.image_format)
        self._measure_some(pair[1][:1], 0, b2a, a2b, self.folder_a.image_format)

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Count the time of the block as scoring."""
        started = working_time()
        try:
            yield
        finally:
            self.spent += working_time() - started

    def _read(self, a: Sequence[Path], b: Sequence[Path], wanted: int) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
        return (
            read_held_out(a, wanted, self.folder_a, self.config, self.unreadable),
            read_held_out(b, wanted, self.folder_b, self.config, self.unreadable),
        )

    def _run(self, network: nn.Module, images: Tensor) -> Tensor:
        with torch.inference_mode():
            translated: Tensor = network(images.to(self.device)).float().cpu()
            return translated

    @property
    def is_open(self) -> bool:
        """Whether the real images have been measured."""
        return bool(self._features)

    def open(self) -> dict[str, Any]:
        """Measure the real images. Returns what is logged of them, with the baselines of KID for each direction.

        Raises InputError for fewer than two readable images of a domain.
        """
        with self.clock():
            network = self._network = self._network or FeatureNetwork(self.device)
            wanted = self.config.num_validation
            self._images = a, b = self._read(self.files.a, self.files.b, wanted)
            for name, found in (("A", a), ("B", b)):
                if len(found) < 2:
                    raise InputError(f"Scores need at least 2 images of each domain; {name} has {len(found)}.")
            real_a, real_b = _features(network, a), _features(network, b)
            ceiling = self._distance(real_a, real_b)
            self._baselines = {"a2b": {"ceiling": ceiling}, "b2a": {"ceiling": ceiling}}
            trained_a, trained_b = self._read(self.files.trained_a, self.files.trained_b, wanted)
            if len(trained_b) > 1:
                self._baselines["a2b"]["floor"] = self._distance(_features(network, trained_b), real_b)
            if len(trained_a) > 1:
                self._baselines["b2a"]["floor"] = self._distance(_features(network, trained_a), real_a)
            self._features = {"a": real_a, "b": real_b}
            self._spectra = {"a": _spectra(*a, *trained_a), "b": _spectra(*b, *trained_b)}
            self._open_cost = 0.0
        return {
            "origin": self.files.origin,
            "num_images": {"a": len(a), "b": len(b)},
            "files": {"a": [str(path) for path in self.files.a], "b": [str(path) for path in self.files.b]},
            "features": network.info.model_dump(),
            "directions": self._baselines,
        }

    def score(self, a2b: nn.Module, b2a: nn.Module) -> ValidationScores:
        """Translate all images there and back, and score both directions. The generators are in evaluation mode."""
        before = self.spent
        with self.clock():
            assert self._images is not None  # `open` comes first
            a, b = self._images
            scores_a2b, findings_a2b = self._score("a2b", a, b, a2b, b2a, self.folder_b.image_format)
            scores_b2a, findings_b2a = self._score("b2a", b, a, b2a, a2b, self.folder_a.image_format)
        self._cost = self.spent - before
        kid = (scores_a2b["kid"]["value"] + scores_b2a["kid"]["value"]) / 2
        return ValidationScores(kid, {"a2b": scores_a2b, "b2a": scores_b2a}, (*findings_a2b, *findings_b2a))

    @contextmanager
    def charge(self) -> Iterator[None]:
        """Count the time of the block as part of every scoring, such as saving the best or making a page."""
        before = self.spent
        with self.clock():
            yield
        self._cost += self.spent - before

    def _score(
        self,
        direction: Direction,
        reals: Sequence[Sample],
        targets: Sequence[Sample],
        there: nn.Module,
        back: nn.Module,
        target: ImageFormat,
    ) -> tuple[dict[str, Any], list[Finding]]:
        measured = self._measure(reals, there, back, target)
        kid = self._kid(measured, self._features["b" if direction == "a2b" else "a"])
        scores: dict[str, Any] = {"kid": kid}
        for name, metric in METRICS.items():
            if metric.in_training and name != "kid":
                values = [row[name] for row in measured.rows if name in row]
                scores[name] = sum(values) / len(values) if values and name not in measured.failures else None
        inputs, wanted = (torch.cat([thumbnails(_filled(sample)[None]) for sample in x]) for x in (reals, targets))
        vitals = Vitals(
            change=sum(measured.changes) / len(measured.changes) if measured.changes else None,
            realism=_realism(kid["value"], self._baselines[direction]),
            diversity=diversity(torch.cat(measured.outputs), inputs, wanted),
            inversions=inversions(measured.planes, inputs, wanted),
            cycle=_number(scores["cycle"]),
            cycle_noisy=_number(scores["cycle_noisy"]),
            pattern=pattern(torch.cat(measured.spectra), self._spectra["b" if direction == "a2b" else "a"]),
        )
        failures = [
            Finding(f"{direction}/{name}", f"{METRICS[name].label} cannot be computed on validation images: {reason}.")
            for name, reason in measured.failures.items()
        ]
        return scores, check_direction(direction, vitals) + failures

    def _measure(self, reals: Sequence[Sample], there: nn.Module, back: nn.Module, target: ImageFormat) -> "_Measured":
        """Translate images there and back, and measure each one. Each process measures some of them."""
        size, rank = self.processes.size, self.processes.rank
        share = -(-len(reals) // (size * _BATCH)) * _BATCH  # whole batches
        begin = min(rank * share, len(reals))
        measured, reason = None, ""
        try:
            measured = self._measure_some(reals[begin : begin + share], begin, there, back, target)
        except Exception as error:
            if size == 1:
                raise
            reason = failure_reason(error)
        parts, reasons = zip(*self.processes.gather((measured, reason)), strict=True)
        if any(reasons):
            raise InputError(next(filter(None, reasons)))
        return _Measured.joined(parts)

    def _measure_some(
        self, reals: Sequence[Sample], begin: int, there: nn.Module, back: nn.Module, target: ImageFormat
    ) -> "_Measured":
        """begin: the number of the first image, from which its noise follows."""
        assert self._network is not None
        measured = _Measured()
        for masks, batch in same_size_batches(((real.mask, real.image) for real in reals), _BATCH):
            ways = partial(self._run, there), partial(self._run, back)
            first = begin + len(measured.rows)
            trip = round_trip(batch, *ways, target, seed=self.config.seed, first=first, masks=masks)
            if "kid" not in measured.failures:
                try:
                    measured.features.append(self._network(trip.fake))
                except Exception as error:  # the scores without features are kept
                    measured.failures["kid"] = failure_reason(error)
            measured.outputs.append(thumbnails(trip.fake))
            measured.spectra.append(spectrum_features(trip.fake))
            for i, real in enumerate(batch):
                fake, mask = trip.fake[i], masks[i]
                pictures = {
                    "input": real,
                    "output": fake,
                    "cycled": trip.cycled[i],
                    "cycled_noisy": trip.cycled_noisy[i],
                }
                same = dict.fromkeys(pictures, mask)
                measured.rows.append(measure_image(pictures, measured.failures, masks=same, in_training=True))
                measured.changes += [l1(fake, real, mask)] if real.shape == fake.shape else []
                measured.planes.append(plane_correlations(real, fake, mask))
        return measured

    def _kid(self, measured: "_Measured", real: Tensor) -> dict[str, float]:
        """The KID of the translations; NaN, with an entry in the failures, if it cannot be computed."""
        if "kid" not in measured.failures:
            try:
                kid = self._distance(torch.cat(measured.features), real)
                return {name: finite(value) for name, value in kid.items()}
            except Exception as error:
                measured.failures["kid"] = failure_reason(error)
        return dict.fromkeys(("value", "low", "high"), math.nan)

    def _distance(self, x: Tensor, y: Tensor) -> dict[str, float]:
        value, low, high = kernel_distance(x, y, num_bootstrap=_NUM_BOOTSTRAP, seed=self.config.seed)
        return {"value": value, "low": low, "high": high}


@dataclass
class _Measured:
    """Of the translations: features, thumbnails and spectra by batch; scores, change and correlations by image."""

    features: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    spectra: list[Tensor] = field(default_factory=list)
    rows: list[dict[str, float]] = field(default_factory=list)
    changes: list[float] = field(default_factory=list)
    planes: list[dict[str, float]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    @classmethod
    def joined(cls, parts: Sequence["_Measured"]) -> "_Measured":
        """What several processes measured."""
        lists = {
            each.name: list(chain.from_iterable(getattr(part, each.name) for part in parts))
            for each in fields(cls)
            if each.name != "failures"
        }
        failures = {name: reason for part in parts for name, reason in part.failures.items()}
        return cls(**lists, failures=failures)


def _realism(kid: float, baselines: dict[str, Any]) -> float | None:
    """Share of the way from untranslated to real images, or None where KID cannot tell these apart."""
    floor, ceiling = baselines["floor"]["value"] if "floor" in baselines else 0.0, baselines["ceiling"]["value"]
    return (ceiling - kid) / (ceiling - floor) if ceiling - floor > _LEAST_SCALE else None


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _features(network: FeatureNetwork, samples: Sequence[Sample]) -> Tensor:
    images = ((None, _filled(sample)) for sample in samples)
    return torch.cat([network(batch) for _, batch in same_size_batches(images, _BATCH)])


def _spectra(*samples: Sample) -> Tensor:
    return torch.cat([spectrum_features(_filled(sample)[None]) for sample in samples])


def _filled(sample: Sample) -> Tensor:
    """The image with its holes filled as those of a translation."""
    return fill(sample.image[None], [sample.mask])[0]

"""Train on batches that the caller makes instead of on two folders."""

import itertools
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from cyclegan.config import ModelConfig, TrainConfig
from cyclegan.data.dataset import Batch
from cyclegan.data.splits import SampleImages
from cyclegan.errors import InputError
from cyclegan.images.formats import ImageFormat
from cyclegan.step.sharing import Share

# Tolerance for values that rounding takes out of [-1, 1].
_TOLERANCE = 1e-3


class BatchSource(Protocol):
    """Any object that makes the batch of a step.

    It may also have these attributes:

    * `steps_per_epoch`: int. Without it, the length of a run is given in steps or minutes, not in epochs.
    * `image_formats`: a pair of `cyclegan.images.formats.ImageFormat`, of A and of B, by which a translator converts
      files to tensors and back. Default: 8-bit images with `channels_a` and `channels_b` channels.
    * `sample_images`: a pair of sequences of (C, H, W) tensors in [-1, 1], for the sample grids. Default: no grids.
    """

    def batch(self, step: int) -> Batch:
        """The images of training step `step`, which counts from 0: `Batch(a, b)`.

        a, b: float32 (N, C, H, W) in [-1, 1], on any device, with N = `batch_size`. With a `preprocess` that ends in
        crop (the default) H and W are `crop_size`; with "none" they are any multiple of what the networks need.

        Of images with holes, `Batch(a, b, mask_a=..., mask_b=...)`: float32 (N, 1, H, W), 1 for a value and 0 in a
        hole, or None without holes. Fill the holes of the images with numbers near their surroundings: networks see
        them, but no loss counts them.

        It is called in the training thread, once for each step, right before the step; where processes share a step, in
        each of them, for the whole batch. A run resumes exactly if the
        result depends on `step` alone.
        """


def own_formats(source: BatchSource, config: TrainConfig) -> tuple[ImageFormat, ImageFormat]:
    """The image formats of both domains. Raises InputError if they contradict the channels of the networks."""
    channels = {"a": config.model.channels_a, "b": config.model.channels_b}
    given: Any = getattr(source, "image_formats", None)
    if given is None:
        ranges = (found or (0.0, 255.0) for found in (config.data.range_a, config.data.range_b))
        a, b = (
            ImageFormat(channels=count, low=low, high=high)
            for count, (low, high) in zip(channels.values(), ranges, strict=True)
        )
        return a, b
    if not _is_pair(given) or not all(isinstance(found, ImageFormat) for found in given):
        raise InputError(f"batches.image_formats is {given!r}; expected two ImageFormat, of A and of B.")
    for (name, count), found in zip(channels.items(), given, strict=True):
        if found.channels != count:
            raise InputError(
                f"batches.image_formats has {found.channels} channels for domain {name.upper()}, but channels_{name} "
                f"is {count}; pass channels_{name}={found.channels}."
            )
    a, b = given
    return a, b


def own_steps_per_epoch(source: BatchSource, config: TrainConfig) -> int | None:
    """Steps in an epoch, or None. Raises InputError if a setting in epochs needs it."""
    found: Any = getattr(source, "steps_per_epoch", None)
    if found is not None and not (isinstance(found, int) and found > 0):
        raise InputError(f"batches.steps_per_epoch is {found!r}; expected an integer of at least 1.")
    if found is None:
        for name in ("epochs", "model_epochs"):
            if (value := getattr(config, name)) is not None:
                raise InputError(
                    f"{name} is {value:g}, but batches has no steps_per_epoch; add that attribute, or "
                    f"{'give the length in steps or minutes' if name == 'epochs' else 'leave it out'}."
                )
    return found


def own_samples(source: BatchSource, config: TrainConfig) -> SampleImages:
    """The first `num_samples` sample images of each domain, or none. Raises InputError if they do not fit."""
    given: Any = getattr(source, "sample_images", None)
    if given is None:
        given = (), ()
    if not _is_pair(given):
        raise InputError(f"batches.sample_images is {_kind(given)}; expected a pair of sequences, of A and of B.")
    channels = config.model.channels_a, config.model.channels_b
    a, b = (
        tuple(_sample(image, f"batches.sample_images[{domain}]", channels[domain], config) for image in images)
        for domain, images in enumerate(images[: config.num_samples] for images in given)
    )
    return SampleImages(a, b, "from batches.sample_images")


def _sample(image: Any, what: str, channels: int, config: TrainConfig) -> Tensor:
    if not isinstance(image, Tensor) or image.ndim != 3:
        raise InputError(f"{what} holds {_kind(image)}; expected tensors (C, H, W).")
    _check_shape(what, image.shape, channels, config.model)
    return image.detach().float().cpu()


def own_batches(
    source: BatchSource, config: TrainConfig, share: Share, first_step: int
) -> Generator[Batch, None, None]:
    """The batches of first_step, first_step + 1, ... without end: of each, the images of this process.

    Raises InputError for one that cannot be used.
    """
    for step in itertools.count(first_step):
        try:
            batch = source.batch(step)
        except StopIteration:
            raise InputError(
                f"batches ended at step {step}; return a batch for every step of the run, or give fewer steps."
            ) from None
        _check(batch, step, config, values=step == first_step)
        mask_a, mask_b = (None if mask is None else share.own(mask) for mask in (batch.mask_a, batch.mask_b))
        yield replace(batch, a=share.own(batch.a), b=share.own(batch.b), mask_a=mask_a, mask_b=mask_b)


def _check(batch: Batch, step: int, config: TrainConfig, *, values: bool) -> None:
    """values: whether to look at the values too, which would make a GPU wait at every step."""
    if not isinstance(batch, Batch):
        raise InputError(f"batches.batch({step}) returned {_kind(batch)}; expected cyclegan.training.Batch(a, b).")
    model, data = config.model, config.data
    for name, images, channels in (("a", batch.a, model.channels_a), ("b", batch.b, model.channels_b)):
        what = f"batches.batch({step}).{name}"
        if not isinstance(images, Tensor) or images.dtype != torch.float32 or images.ndim != 4:
            raise InputError(f"{what} is {_kind(images)}; expected a float32 tensor (N, C, H, W).")
        count, _, height, width = images.shape
        if count != config.batch_size:
            raise InputError(f"{what} has {count} images, but batch_size is {config.batch_size}; make them equal.")
        _check_shape(what, images.shape[1:], channels, model)
        if data.crops and not height == width == data.crop_size:
            raise InputError(
                f"{what} is {width}x{height} pixels, but crop_size is {data.crop_size}; make them equal, or pass "
                "preprocess='none' for images of other sizes."
            )
        mask = batch.mask_a if name == "a" else batch.mask_b
        if mask is not None:
            _check_mask(f"batches.batch({step}).mask_{name}", mask, images, values=values)
        if values and not (largest := float(images.detach().abs().max())) <= 1 + _TOLERANCE:
            raise InputError(f"{what} has values up to {largest:g}; expected values in [-1, 1].")


def _check_mask(what: str, mask: Any, images: Tensor, *, values: bool) -> None:
    shape = (len(images), 1, *images.shape[2:])
    if not isinstance(mask, Tensor) or mask.dtype != torch.float32 or tuple(mask.shape) != shape:
        raise InputError(f"{what} is {_kind(mask)}; expected a float32 tensor {shape}, 1 for a value and 0 in a hole.")
    if values and not bool(((mask == 0) | (mask == 1)).all()):
        raise InputError(f"{what} has values other than 0 and 1; pass 1 for a value and 0 in a hole.")


def _check_shape(what: str, shape: torch.Size, channels: int, model: ModelConfig) -> None:
    """Raise InputError unless the networks take images of this shape, (C, H, W)."""
    depth, height, width = shape
    if depth != channels:
        raise InputError(f"{what} has {depth} channels, but the networks have {channels}; see channels_a, channels_b.")
    if min(height, width) < model.smallest_crop or height % model.multiple or width % model.multiple:
        raise InputError(
            f"{what} is {width}x{height} pixels; these networks need multiples of {model.multiple}, at least "
            f"{model.smallest_crop}."
        )


def _is_pair(value: object) -> bool:
    return isinstance(value, Sequence) and len(value) == 2


def _kind(value: object) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__

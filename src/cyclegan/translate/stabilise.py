"""Reduce flicker: average the statistics of instance norm over frames, and reset them after a cut.

Instance norm depends on everything that a frame shows, so an island that enters the picture changes the colour of
the sea beside it. Between neighbouring frames that is flicker. Here a frame is normalised with an exponential mean over
the frames up to it. docs/guides/video.md describes effect and cost.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cyclegan.errors import InputError
from cyclegan.networks.external_statistics import instance_norms, instance_statistics, with_external_stats

# Time constant of the exponential mean, in frames: removes most of the flicker, and adapts quickly to a change. A
# static camera gains from a longer one. benchmarks/results/flicker.md compares others.
MEMORY_FRAMES = 6

# Side of the thumbnails that cuts are detected in: so coarse that moving objects stay in their pixel or the next.
THUMBNAIL_PIXELS = 16

# A cut changes a thumbnail by at least CUT_DIFFERENCE, in [-1, 1] (16 of 255 levels), and leaves a correlation below
# CUT_CORRELATION. Or it changes it by LIGHT_DIFFERENCE (38 levels), at any correlation: a flash, a light switched on.
# benchmarks/results/flicker.md has the clips that they were tested on.
CUT_DIFFERENCE = 0.125
CUT_CORRELATION = 0.5
LIGHT_DIFFERENCE = 0.3


def thumbnail(frame: Tensor) -> Tensor:
    """(..., C, H, W) in [-1, 1] -> (..., C, 16, 16), means over areas, float32."""
    return F.adaptive_avg_pool2d(frame.float(), THUMBNAIL_PIXELS)


def is_cut(before: Tensor, after: Tensor) -> bool:
    """Whether another scene begins between two thumbnails, (C, h, w) in [-1, 1] of neighbouring frames.

    The pictures differ and do not correlate; fast motion keeps some correlation. Or they differ so much that the light
    must have changed, as in a flash, which counts as a scene because it would distort the mean for many frames. Steps
    of a fade or a dissolve are no cuts; the mean follows them.
    """
    difference = float((after - before).abs().mean())
    if difference < CUT_DIFFERENCE:
        return False
    if difference >= LIGHT_DIFFERENCE:
        return True
    x, y = before - before.mean(), after - after.mean()
    scale = float(x.norm() * y.norm())
    # A uniform picture correlates with nothing.
    return scale < 1e-6 or float((x * y).sum()) / scale < CUT_CORRELATION


def needs_stabilising(network: nn.Module) -> bool:
    """Whether the network normalises each frame by itself. With batch norm or none there is nothing to average."""
    return bool(instance_norms(network))


def check_memory(memory_frames: float) -> None:
    """Raises InputError if memory_frames is less than 1, or NaN."""
    if not memory_frames >= 1:  # true for NaN, too
        raise InputError(f"memory_frames is {memory_frames:g}; expected at least 1.")


class Stabiliser:
    """Translates the frames of one sequence, in order: (N, C, H, W) -> (N, C, H, W).

    With memory_frames M, frame t of a scene (from 0) has the weight max(1 / M, 1 / (t + 1)): first a plain mean over
    frames, then an exponential one. The means of the channels' values and of their squares are averaged, so that the
    last M frames together get mean 0 and variance 1. `find_cuts=False` never starts over.
    Raises InputError as `check_memory` does.

    The first frame of a scene is translated as without a memory. The split of frames into batches does not matter. The
    network itself is not changed.
    """

    def __init__(self, network: nn.Module, *, memory_frames: float = MEMORY_FRAMES, find_cuts: bool = True) -> None:
        check_memory(memory_frames)
        self._memory_frames = memory_frames
        self._find_cuts = find_cuts
        self._network = with_external_stats(network, lambda name: partial(self._carry, name))
        self._memory: dict[str, tuple[Tensor, Tensor]] = {}
        self._thumbnail: Tensor | None = None
        self._age = 0
        self._weights: list[float] = []

    @torch.inference_mode()
    def __call__(self, frames: Tensor) -> Tensor:
        self._weights = [self._weight(small) for small in thumbnail(frames).cpu()]
        return self._network(frames)  # type: ignore[no-any-return]

    def _weight(self, small: Tensor) -> float:
        """The weight of the next frame in the means; 1 starts them over."""
        if self._thumbnail is None or (self._find_cuts and is_cut(self._thumbnail, small)):
            self._age = 0
        self._age += 1
        self._thumbnail = small
        return max(1 / self._memory_frames, 1 / self._age)

    def _carry(self, layer: str, x: Tensor) -> tuple[Tensor, Tensor]:
        means, variances = instance_statistics(x)
        carried = []
        for weight, mean, variance in zip(self._weights, means, variances, strict=True):
            if weight < 1:
                old_mean, old_variance = self._memory[layer]
                # Mean of squares minus square of the mean, without subtracting two large numbers.
                change = mean - old_mean
                mean = old_mean + weight * change
                variance = (1 - weight) * (old_variance + weight * change.square()) + weight * variance
            self._memory[layer] = (mean, variance)
            carried.append((mean, variance))
        return torch.stack([mean for mean, _ in carried]), torch.stack([variance for _, variance in carried])

"""Less flicker: the statistics of instance norm are carried from frame to frame, and start anew after a cut.

Instance norm divides each frame by what that frame shows, so that an island that enters the picture changes the colour
of the sea beside it. Between neighbouring frames that is flicker. Here a frame is normalised with an exponential mean
over the frames up to it. docs/video.md has what that does and costs.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cyclegan.errors import InputError
from cyclegan.networks.external_statistics import instance_norms, instance_statistics, with_external_stats

# Time constant of the exponential mean, in frames: takes most of the pulse away, and is soon over a change. A camera
# that stands still gains more from a longer one. benchmarks/results/flicker.md has others.
MEMORY_FRAMES = 6

# Side of the thumbnail in which cuts are looked for: so coarse that what moves stays in its pixel or the next.
THUMBNAIL_PIXELS = 16

# A cut changes a thumbnail by at least CUT_DIFFERENCE, in [-1, 1] (16 of 255 levels), and leaves a correlation below
# CUT_CORRELATION. Or it changes it by LIGHT_DIFFERENCE (38 levels), whatever the shape: a flash, a light switched on.
# What they were tried on is in benchmarks/results/flicker.md.
CUT_DIFFERENCE = 0.125
CUT_CORRELATION = 0.5
LIGHT_DIFFERENCE = 0.3


def thumbnail(frame: Tensor) -> Tensor:
    """(..., C, H, W) in [-1, 1] -> (..., C, 16, 16), means over areas, float32."""
    return F.adaptive_avg_pool2d(frame.float(), THUMBNAIL_PIXELS)


def is_cut(before: Tensor, after: Tensor) -> bool:
    """Whether another scene begins between two thumbnails, (C, h, w) in [-1, 1] of neighbouring frames.

    The pictures differ, and are not alike in shape: something that moves fast keeps some of the shape. Or they differ
    so much that only the light can have changed, as in a flash: that is a scene of its own, because a mean that has
    seen it would be wrong for many frames after it. Steps of a fade or a dissolve are no cuts; the mean follows them.
    """
    difference = float((after - before).abs().mean())
    if difference < CUT_DIFFERENCE:
        return False
    if difference >= LIGHT_DIFFERENCE:
        return True
    x, y = before - before.mean(), after - after.mean()
    scale = float(x.norm() * y.norm())
    # A plain picture has no shape that could agree.
    return scale < 1e-6 or float((x * y).sum()) / scale < CUT_CORRELATION


def needs_stabilising(network: nn.Module) -> bool:
    """Whether the network normalises each frame by itself. With batch norm or none there is nothing to carry."""
    return bool(instance_norms(network))


def check_memory(memory_frames: float) -> None:
    """Raises InputError if memory_frames is less than 1, or no number."""
    if not memory_frames >= 1:  # so that nan is none either
        raise InputError(f"memory_frames is {memory_frames:g}; expected at least 1.")


class Stabiliser:
    """The frames of one sequence in, in order: (N, C, H, W) -> (N, C, H, W), as the network gives with a memory.

    With memory_frames M, frame t of a scene (from 0) has the weight max(1 / M, 1 / (t + 1)): a plain mean over frames
    at first, then an exponential one. What is averaged are the channels' values and their squares, so that all that M
    frames show together gets mean 0 and variance 1. `find_cuts=False` never starts anew.
    Raises InputError as `check_memory` does.

    The first frame, and a frame after a cut, are translated as without a memory. How frames are cut into batches does
    not matter. The network itself is not changed.
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
        """What the next frame counts in the means: 1 if it starts them anew."""
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
                # The mean of squares less the square of the mean, without the difference of two large numbers.
                change = mean - old_mean
                mean = old_mean + weight * change
                variance = (1 - weight) * (old_variance + weight * change.square()) + weight * variance
            self._memory[layer] = (mean, variance)
            carried.append((mean, variance))
        return torch.stack([mean for mean, _ in carried]), torch.stack([variance for _, variance in carried])

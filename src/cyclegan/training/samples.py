"""Sample images, their translations and the translations back, as a grid and as pictures of the report page."""

import torch
from PIL import Image
from torch import Tensor

from cyclegan.config import Direction
from cyclegan.data.splits import SampleImages
from cyclegan.images.drawing import grid, mark_holes, upscale
from cyclegan.step.state import Generators
from cyclegan.storage.showcase import ShowcaseImage

_LABELS: dict[Direction, tuple[str, str, str]] = {
    "a2b": ("real A", "fake B = G(A)", "cycled A = F(G(A))"),
    "b2a": ("real B", "fake A = F(B)", "cycled B = G(F(B))"),
}

# A real image, its translation, and the translation of that back: (C, H, W) each, on the CPU, holes marked.
RoundTrip = tuple[Tensor, Tensor, Tensor]


@torch.inference_mode()
def translate_samples(
    samples: SampleImages, generators: Generators, device: torch.device
) -> dict[Direction, list[RoundTrip]]:
    """Translate each sample there and back, one at a time. The generators are in evaluation mode."""

    def round_trip(real: Tensor, mask: Tensor | None, there: torch.nn.Module, back: torch.nn.Module) -> RoundTrip:
        fake = there(real.to(device)[None])
        trip = real, fake[0].float().cpu(), back(fake)[0].float().cpu()
        first, second, third = (mark_holes(image, mask) for image in trip)
        return first, second, third

    a2b, b2a = generators.a2b, generators.b2a
    masks_a, masks_b = samples.masks_a or [None] * len(samples.a), samples.masks_b or [None] * len(samples.b)
    return {
        "a2b": [round_trip(real, mask, a2b, b2a) for real, mask in zip(samples.a, masks_a, strict=True)],
        "b2a": [round_trip(real, mask, b2a, a2b) for real, mask in zip(samples.b, masks_b, strict=True)],
    }


def sample_sheet(trips: dict[Direction, list[RoundTrip]]) -> Image.Image:
    """Draw a grid: for each direction that has samples a row of real, one of fake and one of cycled images."""
    rows: list[list[Tensor]] = []
    labels: list[str] = []
    for direction, found in trips.items():
        if found:
            labels += _LABELS[direction]
        for row in zip(*found, strict=True):
            rows.append([upscale(image, max(1, 128 // image.shape[-1])) for image in row])
    return grid(rows, labels)


def showcase(trips: dict[Direction, list[RoundTrip]]) -> list[ShowcaseImage]:
    """The samples as pictures of the report page."""
    return [
        ShowcaseImage(
            direction, f"image {number}", "sample", dict(zip(("input", "output", "cycled"), trip, strict=True))
        )
        for direction, found in trips.items()
        for number, trip in enumerate(found, 1)
    ]

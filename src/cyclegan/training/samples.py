"""The sample grid: real, fake and cycled images."""

import torch
from PIL import Image
from torch import Tensor, nn

from cyclegan.data.splits import HeldOut
from cyclegan.images.drawing import grid, upscale


@torch.inference_mode()
def sample_sheet(samples: HeldOut, a2b: nn.Module, b2a: nn.Module, device: torch.device) -> Image.Image:
    """A picture of the samples: real, fake and cycled in a row each, for each domain that has any."""
    rows: list[list[Tensor]] = []
    labels: list[str] = []
    for reals, there, back, names in (
        (samples.a, a2b, b2a, ("real A", "fake B = G(A)", "cycled A = F(G(A))")),
        (samples.b, b2a, a2b, ("real B", "fake A = F(B)", "cycled B = G(F(B))")),
    ):
        triples = [(real, *there_and_back(real.to(device), there, back)) for real in reals]
        if triples:
            labels += names
        rows += [
            [upscale(image, max(1, 128 // image.shape[-1])) for image in row] for row in zip(*triples, strict=True)
        ]
    return grid(rows, labels)


def there_and_back(real: Tensor, there: nn.Module, back: nn.Module) -> tuple[Tensor, Tensor]:
    """(C, H, W) -> its translation and the translation back, on the CPU."""
    fake = there(real[None])
    return fake[0].float().cpu(), back(fake)[0].float().cpu()

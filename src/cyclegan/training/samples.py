"""The sample grid: real images, their translations, and the translations back."""

import torch
from PIL import Image
from torch import Tensor, nn

from cyclegan.data.splits import SampleImages
from cyclegan.images.drawing import grid, upscale


@torch.inference_mode()
def sample_sheet(samples: SampleImages, a2b: nn.Module, b2a: nn.Module, device: torch.device) -> Image.Image:
    """Draw each sample as a row of real, fake and cycled image, for each domain that has samples."""
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
    """Translate one image (C, H, W) and translate the result back. Returns both on the CPU."""
    fake = there(real[None])
    return fake[0].float().cpu(), back(fake)[0].float().cpu()

"""Scores of images and of sets of features, as pure functions. Images are (C, H, W) tensors in [-1, 1].

mask: (H, W), bool, False in holes, where no value counts; at least one pixel is valid. Default: all are.

Distances of sets: KID of Binkowski et al. 2018 ("Demystifying MMD GANs", section 3) and the Frechet distance of Heusel
et al. 2017 (equation 6), on any features.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

# Rows of a kernel matrix that are in memory at once.
_BLOCK = 1024

# Smallest side of an image, in pixels, for SSIM (its window) and for MS-SSIM (the window at the last of five scales,
# each half as large as the one before: one pixel less leaves no whole window there).
SSIM_WINDOW = 11
MS_SSIM_SMALLEST = 16 * SSIM_WINDOW

# Equal images have no finite ratio of signal to noise; they count as this, in dB.
MAX_PSNR = 100.0


def l1(image: Tensor, truth: Tensor, mask: Tensor | None = None) -> float:
    """Mean absolute difference; 0 is equal, 2 is black against white."""
    return float(_valid((image - truth).abs(), mask).mean())


def psnr(image: Tensor, truth: Tensor, mask: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio in dB, at most MAX_PSNR, which is that of equal images."""
    error = float(torch.mean(_valid((image.double() - truth.double()).square(), mask)))
    return min(10 * math.log10(4 / error), MAX_PSNR) if error > 0 else MAX_PSNR


def _valid(values: Tensor, mask: Tensor | None) -> Tensor:
    """The values, (..., H, W), at valid pixels."""
    return values if mask is None else values[..., mask]


def ssim(image: Tensor, truth: Tensor, mask: Tensor | None = None) -> float | None:
    """Structural similarity (Wang et al. 2004), mean over pixels and channels; 1 is equal. Needs sides of SSIM_WINDOW.

    At the border the window sees mirrored pixels, as in torchmetrics; scikit-image leaves these five pixels out. With
    holes, the mean is over pixels whose window is valid; None if there is none.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    if mask is None:
        value = structural_similarity_index_measure(_unit(image), _unit(truth), data_range=1.0)
        assert isinstance(value, Tensor)
        return float(value)
    mask = _whole_windows(mask, SSIM_WINDOW // 2)
    if not mask.any():
        return None
    _, local = structural_similarity_index_measure(_unit(image), _unit(truth), data_range=1.0, return_full_image=True)
    return float(local[..., mask].mean())


def _whole_windows(mask: Tensor, reach: int) -> Tensor:
    """(H, W): where all pixels up to `reach` away, as far as they are in the image, are valid."""
    holes = (~mask)[None].float()
    return functional.max_pool2d(holes, 2 * reach + 1, 1, reach)[0] == 0


def ms_ssim(image: Tensor, truth: Tensor) -> float:
    """Multi-scale structural similarity (Wang et al. 2003); 1 is equal. Needs sides of MS_SSIM_SMALLEST."""
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    return float(multiscale_structural_similarity_index_measure(_unit(image), _unit(truth), data_range=1.0))


def _unit(image: Tensor) -> Tensor:
    """(1, C, H, W) in [0, 1]: SSIM compares means as ratios, so it depends on where black is."""
    return (image[None] + 1) / 2


def luma(image: Tensor) -> Tensor:
    """Brightness, (H, W) in [-1, 1]: Rec. 601 luma of three or more channels, else the first channel."""
    if image.shape[0] < 3:
        return image[0]
    return 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]


def correlation(x: Tensor, y: Tensor) -> float | None:
    """Pearson correlation of all values of two tensors of one shape; None where one of them is constant."""
    x, y = x.double() - x.double().mean(), y.double() - y.double().mean()
    scale = float(x.norm() * y.norm())
    # Below this a constant image is only rounding.
    return float((x * y).sum()) / scale if scale > 1e-6 * x.numel() else None


def edge_correlation(image: Tensor, other: Tensor, mask: Tensor | None = None) -> float | None:
    """Correlation of the strength of edges (Sobel) in the brightness of two images of one size.

    1: edges at the same places, in any colours and with either side the brighter one; 0: unrelated. None if an image
    has no edges or is smaller than 3x3, or if no 3x3 pixels are valid.
    """
    if min(image.shape[1:]) < 3:
        return None
    if mask is not None:
        mask = _whole_windows(mask, 1)[1:-1, 1:-1]
        if not mask.any():
            return None
    return correlation(_valid(_edges(luma(image)), mask), _valid(_edges(luma(other)), mask))


def _edges(plane: Tensor) -> Tensor:
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=plane.device)
    kernels = torch.stack([across, across.T])[:, None]
    gradient = functional.conv2d(plane.float()[None, None], kernels)
    return gradient.square().sum(1).sqrt()


def colour_difference(image: Tensor, truth: Tensor, mask: Tensor | None = None) -> float:
    """Mean CIE76 colour difference of two sRGB images: 2.3 is just noticeable, 100 is black to white.

    image, truth: three channels. Source: CIE 15; Mahy et al. 1994 for the threshold.
    """
    return float(_valid((_to_lab(image) - _to_lab(truth)).square().sum(0).sqrt(), mask).mean())


def _to_lab(image: Tensor) -> Tensor:
    """sRGB in [-1, 1] -> CIE L*a*b* with the white of D65 (IEC 61966-2-1, CIE 15)."""
    value = (image.double().clamp(-1, 1) + 1) / 2
    linear = torch.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    to_xyz = torch.tensor(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]],
        dtype=torch.float64,
    )
    relative = torch.einsum("ij,jhw->ihw", to_xyz / to_xyz.sum(1, keepdim=True), linear.cpu())
    f = torch.where(relative > (6 / 29) ** 3, relative.clamp(min=0) ** (1 / 3), relative / (3 * (6 / 29) ** 2) + 4 / 29)
    return torch.stack([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# ---- distances of sets of features


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """The cubic kernel of KID, (x . y / d + 1)^3."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def kernel_distance(x: Tensor, y: Tensor, *, num_bootstrap: int = 1000, seed: int = 0) -> tuple[float, float, float]:
    """Unbiased KID of two sets of features, (N, D) and (M, D), and its 95 % bootstrap interval over images.

    All pairs are used, not random subsets, so the value is deterministic; it is unbiased for any number of images and
    may be below 0. The interval is the middle 95 % of `num_bootstrap` resamplings of both sets; an image is
    never paired with its own copy, which would make every resampled distance too large. It is too narrow where the two
    sets are from one distribution (the statistic is degenerate there), and where images are not independent.
    Memory: one block of the kernel matrix, and 4 bytes for each image and resampling.
    Raises ValueError for fewer than 2 images.
    """
    if len(x) < 2 or len(y) < 2:
        raise ValueError(f"a kernel distance needs at least 2 images of each set, not {len(x)} and {len(y)}")
    rng = np.random.default_rng(seed)
    # The first row is the sample itself, the others are resampled: how often each image was drawn.
    draws_x, draws_y = (_draws(len(features), num_bootstrap, rng) for features in (x, y))
    distances = (
        _mean_kernel(x, x, draws_x, draws_x, distinct=True)
        + _mean_kernel(y, y, draws_y, draws_y, distinct=True)
        - 2 * _mean_kernel(x, y, draws_x, draws_y)
    )
    value = float(distances[0])
    if num_bootstrap == 0:
        return value, value, value
    low, high = np.quantile(distances[1:].numpy(), [0.025, 0.975])
    return value, float(low), float(high)


def _draws(count: int, num_bootstrap: int, rng: np.random.Generator) -> Tensor:
    """How often each image is drawn, (1 + num_bootstrap, count); in the first row once."""
    draws = torch.ones(1 + num_bootstrap, count)
    equal = np.full(count, 1 / count)
    for row in draws[1:]:
        # A draw of a single image has no pairs; with very few images it happens.
        while (drawn := rng.multinomial(count, equal)).max() == count:
            pass
        row.copy_(torch.from_numpy(drawn))
    return draws


def _mean_kernel(x: Tensor, y: Tensor, draws_x: Tensor, draws_y: Tensor, *, distinct: bool = False) -> Tensor:
    """Mean of the kernel over all drawn pairs, for each row of draws; distinct: never an image with itself."""
    total = torch.zeros(len(draws_x), dtype=torch.float64)
    pairs = draws_x.sum(1, dtype=torch.float64) * draws_y.sum(1, dtype=torch.float64)
    for start in range(0, len(x), _BLOCK):
        rows = slice(start, start + _BLOCK)
        kernel = _kernel(x[rows], y)
        drawn = draws_x[:, rows].double()
        if distinct:
            kernel.diagonal(start).zero_()
            pairs -= drawn.square().sum(1)
        total += (drawn * (draws_y @ kernel.T)).sum(1)
    return total / pairs


def distance_to_nearest(x: Tensor, real: Tensor, *, num_nearest: int = 3) -> Tensor:
    """Mean distance of the features of each image to those of the nearest real images, (N,).

    Precision in Kynkaanniemi et al. 2019 without its threshold: an image that looks like no real one is far.
    """
    count = min(num_nearest, len(real))
    blocks = [
        torch.cdist(x[start : start + _BLOCK], real).topk(count, largest=False).values.mean(1)
        for start in range(0, len(x), _BLOCK)
    ]
    return torch.cat(blocks)


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Frechet distance of the normal distributions fitted to two sets of features, (N, D) and (M, D).

    |mean difference|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2)), with unbiased covariances. It is biased upwards for few
    images, so only distances of equally large sets can be compared. Raises ValueError for fewer than 2 images.
    """
    if len(x) < 2 or len(y) < 2:
        raise ValueError(f"a Frechet distance needs at least 2 images of each set, not {len(x)} and {len(y)}")
    mean_x, mean_y = x.mean(0, dtype=torch.float64), y.mean(0, dtype=torch.float64)
    spread_x, spread_y = _total_variance(x, mean_x), _total_variance(y, mean_y)
    if len(x) * len(y) <= 4 * x.shape[1] ** 2:
        # tr((S_x S_y)^(1/2)) is the sum of the singular values of X Y^T, which is exact for few images, where the
        # covariances are singular and a matrix square root is not.
        cross = (x.double() - mean_x) @ (y.double() - mean_y).T / math.sqrt((len(x) - 1) * (len(y) - 1))
        overlap = float(torch.linalg.svdvals(cross).sum())
    else:
        root = _square_root(_covariance(x, mean_x))
        eigenvalues = torch.linalg.eigvalsh(root @ _covariance(y, mean_y) @ root)
        overlap = float(eigenvalues.clamp(min=0).sqrt().sum())
    return float((mean_x - mean_y).square().sum()) + spread_x + spread_y - 2 * overlap


def _total_variance(x: Tensor, mean: Tensor) -> float:
    """The trace of the covariance."""
    blocks = (x[start : start + _BLOCK].double() - mean for start in range(0, len(x), _BLOCK))
    return sum(float(block.square().sum()) for block in blocks) / (len(x) - 1)


def _covariance(x: Tensor, mean: Tensor) -> Tensor:
    total = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64)
    for start in range(0, len(x), _BLOCK):
        centred = x[start : start + _BLOCK].double() - mean
        total += centred.T @ centred
    return total / (len(x) - 1)


def _square_root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = vectors * values.clamp(min=0).sqrt() @ vectors.T
    return root

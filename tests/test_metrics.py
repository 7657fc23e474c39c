"""Scores against values worked by hand, closed forms, and other implementations."""

import math

import numpy as np
import pytest
import torch

from cyclegan.images.formats import ImageFormat
from cyclegan.images.tensors import to_tensor
from cyclegan.metrics import functions as metrics
from cyclegan.metrics.table import METRICS


def kid_by_hand(x, y):
    """The definition, pair by pair."""

    def kernel(u, v):
        return (float(u.double() @ v.double()) / len(u) + 1) ** 3

    n, m = len(x), len(y)
    own_x = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    own_y = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return own_x + own_y - 2 * sum(kernel(u, v) for u in x for v in y) / (n * m)


def test_kid_equals_its_definition_for_any_block_size(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(9, 5, generator=generator), torch.randn(7, 5, generator=generator) + 0.5
    monkeypatch.setattr(metrics, "_BLOCK", 4)
    value, low, high = metrics.kernel_distance(x, y, num_bootstrap=100)
    assert value == pytest.approx(kid_by_hand(x, y), rel=1e-5)
    assert low < value < high


def test_kid_is_the_mean_of_torchmetrics_subsets():
    from torchmetrics.image.kid import poly_mmd

    generator = torch.Generator().manual_seed(1)
    x, y = torch.rand(40, 16, generator=generator), torch.rand(40, 16, generator=generator) * 1.2
    assert metrics.kernel_distance(x, y)[0] == pytest.approx(float(poly_mmd(x, y)), rel=1e-4)


def test_kid_is_unbiased_for_few_images():
    rng = np.random.default_rng(0)
    draws = torch.from_numpy(rng.standard_normal((300, 2, 5, 8))).float()
    values = [metrics.kernel_distance(x, y, num_bootstrap=0)[0] for x, y in draws]
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(len(values))  # one distribution: 0 on average
    assert min(values) < 0 < max(values)


def test_the_interval_of_kid_covers_the_true_distance_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    far = torch.from_numpy(rng.standard_normal((4000, 4)) + 1).float()
    near = torch.from_numpy(rng.standard_normal((4000, 4))).float()
    true = metrics.kernel_distance(far, near, num_bootstrap=0)[0]
    hits = 0
    for index in range(200):
        x = torch.from_numpy(rng.standard_normal((40, 4)) + 1).float()
        y = torch.from_numpy(rng.standard_normal((60, 4))).float()
        _, low, high = metrics.kernel_distance(x, y, num_bootstrap=200, seed=index)
        hits += low <= true <= high
    assert 0.86 <= hits / 200 <= 0.99


@pytest.mark.parametrize("count", [2, 3])
def test_a_handful_of_images_has_an_interval(count):
    x, y = torch.rand(count, 4), torch.rand(count, 4)
    value, low, high = metrics.kernel_distance(x, y)
    assert math.isfinite(low)
    assert low <= value + 1e-9
    assert value <= high + 1e-9


def test_a_seed_repeats_an_interval():
    x, y = torch.rand(12, 6), torch.rand(12, 6)
    assert metrics.kernel_distance(x, y, seed=3) == metrics.kernel_distance(x, y, seed=3)
    assert metrics.kernel_distance(x, y, seed=3) != metrics.kernel_distance(x, y, seed=4)


def test_the_frechet_distance_is_that_of_the_fitted_normal_distributions():
    # In one dimension: (m - n)^2 + (s - t)^2, with unbiased variances.
    x, y = torch.tensor([[0.0], [2.0], [4.0]]), torch.tensor([[10.0], [11.0]])
    s, t = 2.0, math.sqrt(0.5)
    assert metrics.frechet_distance(x, y) == pytest.approx((2 - 10.5) ** 2 + (s - t) ** 2)


@pytest.mark.parametrize("count", [6, 400])
def test_both_ways_to_the_frechet_distance_agree_with_a_matrix_square_root(count):
    from torchmetrics.image.fid import _compute_fid

    generator = torch.Generator().manual_seed(2)
    mixing = torch.randn(8, 8, generator=generator)
    x = torch.randn(count, 8, generator=generator) @ mixing
    y = torch.randn(count, 8, generator=generator) + 1
    both = [(z.double().mean(0), torch.cov(z.double().T)) for z in (x, y)]
    expected = float(_compute_fid(*both[0], *both[1]))
    assert metrics.frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("distance", [metrics.kernel_distance, metrics.frechet_distance])
def test_distances_of_sets_need_two_images(distance):
    with pytest.raises(ValueError, match="at least 2"):
        distance(torch.rand(1, 4), torch.rand(5, 4))


def test_unrealistic_images_are_far_from_real_ones():
    generator = torch.Generator().manual_seed(3)
    real = torch.rand(30, 16, generator=generator)
    fakes = torch.cat([real[:4] + 0.01, torch.zeros(1, 16), torch.rand(1, 16, generator=generator) + 2])
    distances = metrics.distance_to_nearest(fakes, real)
    assert distances.argsort().tolist()[-2:] == [4, 5]  # a blank one, and one far outside
    assert distances[0] < distances[4]
    nearest = (fakes[4] - real).norm(dim=1).sort().values[:3].mean()
    assert float(distances[4]) == pytest.approx(float(nearest), rel=1e-4)


def test_edges_are_kept_by_a_negative_and_lost_by_a_shift():
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(4)) * 2 - 1
    assert metrics.edge_correlation(image, -image) == pytest.approx(1.0)
    assert abs(metrics.edge_correlation(image, image.roll(9, -1))) < 0.2
    assert metrics.edge_correlation(image, torch.zeros(3, 32, 32)) is None
    assert metrics.correlation(image, -image) == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("colour", "lab"),
    [  # from CIE formulas, as listed for the primaries of sRGB
        ((1, 1, 1), (100.0, 0.0, 0.0)),
        ((1, -1, -1), (53.24, 80.09, 67.20)),
        ((-1, 1, -1), (87.73, -86.18, 83.18)),
        ((-1, -1, 1), (32.30, 79.19, -107.86)),
        ((-1, -1, -1), (0.0, 0.0, 0.0)),
    ],
)
def test_colour_difference_is_the_distance_in_lab(colour, lab):
    black = -torch.ones(3, 2, 2)
    image = torch.tensor(colour, dtype=torch.float32)[:, None, None].expand(3, 2, 2)
    assert metrics.colour_difference(image, black) == pytest.approx(math.sqrt(sum(v * v for v in lab)), abs=0.05)


def test_psnr_and_l1_of_known_differences():
    truth = torch.zeros(3, 4, 4)
    assert metrics.l1(truth + 0.5, truth) == 0.5
    assert metrics.psnr(truth + 0.2, truth) == pytest.approx(20.0, abs=1e-4)  # a tenth of the range
    assert metrics.psnr(truth, truth) == metrics.MAX_PSNR


@pytest.mark.parametrize(("grey", "other"), [(0.45, 0.55), (0.0, 0.1), (0.9, 1.0)])
def test_ssim_of_flat_images_is_its_term_of_brightness(grey, other):
    c1 = 0.01**2
    expected = (2 * grey * other + c1) / (grey**2 + other**2 + c1)
    one, two = (torch.full((3, 32, 32), 2 * value - 1) for value in (grey, other))
    assert metrics.ssim(one, two) == pytest.approx(expected, abs=1e-3)


def test_ssim_of_equal_and_of_unrelated_images():
    generator = torch.Generator().manual_seed(5)
    image, other = torch.rand(2, 3, 176, 176, generator=generator) * 2 - 1
    for score in (metrics.ssim, metrics.ms_ssim):
        assert score(image, image) == pytest.approx(1.0, abs=1e-5)
        assert score(image, other) < 0.2


def test_ms_ssim_is_a_number_from_its_smallest_side_on():
    smallest = METRICS["ms_ssim"].smallest_side
    assert smallest == 176
    generator = torch.Generator().manual_seed(0)
    image, truth = (torch.rand(3, smallest, 200, generator=generator) * 2 - 1 for _ in range(2))
    assert metrics.ms_ssim(image, image) == pytest.approx(1, abs=1e-4)
    assert math.isfinite(metrics.ms_ssim(image, truth))
    with pytest.raises(ValueError, match="height must be larger"):
        metrics.ms_ssim(image[:, 1:], truth[:, 1:])


# ---- against scikit-image and numpy


def stored_pair(channels, dtype, seed=0, size=(40, 52)):
    """An image and a distorted copy as files hold them, (H, W, C), and both as tensors."""
    rng = np.random.default_rng(seed)
    high = {"uint8": 255.0, "uint16": 4000.0, "float32": 2.5}[dtype]
    truth = np.stack([np.kron(rng.random((5, 7)), np.ones((8, 8)))[: size[0], : size[1]] for _ in range(channels)], -1)
    image = (0.8 * truth + 0.1 + 0.08 * rng.standard_normal(truth.shape)).clip(0, 1)
    pair = [(high * values) for values in (image, truth)]
    pair = [values.astype(dtype) if dtype == "float32" else np.rint(values).astype(dtype) for values in pair]
    image_format = ImageFormat(channels=channels, dtype=dtype, low=0.0, high=high)
    return pair, [to_tensor(values, image_format) for values in pair], high


DEPTHS = [
    (3, "uint8"),
    (1, "uint8"),
    (4, "uint8"),
    (1, "uint16"),
    (3, "uint16"),
    (5, "uint16"),
    (1, "float32"),
    (7, "float32"),
]


@pytest.mark.parametrize(("channels", "dtype"), DEPTHS)
def test_ssim_and_psnr_are_those_of_scikit_image(channels, dtype):
    skimage = pytest.importorskip("skimage.metrics")
    (image, truth), (x, y), high = stored_pair(channels, dtype)
    image, truth = image.astype(np.float64), truth.astype(np.float64)
    # scikit-image leaves out the border of half a window, where ours sees mirrored pixels.
    wide = [np.pad(values, [(5, 5), (5, 5), (0, 0)], mode="reflect") for values in (image, truth)]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = skimage.structural_similarity(*wide, data_range=high, channel_axis=-1, **options)
    assert metrics.ssim(x, y) == pytest.approx(expected, abs=2e-5)
    expected = skimage.peak_signal_noise_ratio(truth, image, data_range=high)
    assert metrics.psnr(x, y) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_the_colour_error_is_that_of_scikit_image(dtype):
    skimage = pytest.importorskip("skimage.color")
    (image, truth), (x, y), high = stored_pair(3, dtype, seed=4)
    # Its matrix of sRGB has six digits, ours seven.
    expected = skimage.deltaE_cie76(skimage.rgb2lab(image / high), skimage.rgb2lab(truth / high)).mean()
    assert metrics.colour_difference(x, y) == pytest.approx(expected, abs=5e-3)
    assert expected > 5


@pytest.mark.parametrize(("channels", "dtype"), DEPTHS)
def test_l1_is_that_of_numpy_in_the_values_of_the_files(channels, dtype):
    (image, truth), (x, y), high = stored_pair(channels, dtype, seed=2)
    expected = np.abs(image.astype(np.float64) - truth.astype(np.float64)).mean()
    assert metrics.l1(x, y) * high / 2 == pytest.approx(expected, rel=1e-5)
    one_level = np.array(truth)
    one_level[0, 0, 0] += 1 if dtype != "float32" else np.float32(0.5)
    changed = to_tensor(one_level, ImageFormat(channels=channels, dtype=dtype, low=0.0, high=high))
    # A level of 65,536 is seen, and not rounded to 8 bits.
    if one_level[0, 0, 0] <= high:
        difference = float(one_level[0, 0, 0]) - float(truth[0, 0, 0])
        assert metrics.l1(changed, y) * high / 2 * truth.size == pytest.approx(difference, rel=2e-3)

"""Scores of local spectra: what they see, and that they order pictures as people do."""

import math
import runpy
from pathlib import Path

import pytest
import torch

from cyclegan.metrics.spectrum import (
    WINDOW,
    pattern_excess,
    patterns,
    radial_levels,
    spectrum_distance,
    spectrum_features,
    strongest_pattern,
)

KINDS = runpy.run_path(str(Path(__file__).parent.parent / "benchmarks" / "spectrum.py"))


def landscapes(count, seed, side=64, channels=3):
    """Pictures with the spectrum of photos, 1/f, and a flat, dark sea on their left side; (N, C, H, W) in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    frequency = torch.fft.fftfreq(side)
    radius = (frequency[:, None].square() + frequency.square()).sqrt().clamp(min=1 / side)
    noise = torch.randn(count, channels, side, side, generator=generator)
    land = torch.fft.ifft2(torch.fft.fft2(noise) / radius).real
    land = 0.3 * land / land.std((-1, -2), keepdim=True) + 0.2
    coast = side // 2 + 4 * torch.sin(torch.arange(side) / 5.0)
    sea = (torch.arange(side) < coast[:, None]).float()
    return (land * (1 - sea) - 0.7 * sea).clamp(-1, 1)


def stripes(images, levels, period, angle):
    """Grey stripes whose waves run at this angle, down from the right, in radians."""
    down, across = torch.meshgrid(*(torch.arange(side) for side in images.shape[-2:]), indexing="ij")
    waves = torch.sin(2 * math.pi * (across * math.cos(angle) + down * math.sin(angle)) / period + 0.4)
    return images + levels / 127.5 * waves


@pytest.fixture(scope="module")
def real():
    return spectrum_features(landscapes(40, seed=0))


@pytest.fixture(scope="module")
def scores(real):
    """Both scores of every degradation of other pictures."""
    found = {}
    for name, images in KINDS["degraded"](landscapes(40, seed=1)):
        features = spectrum_features(images)
        found[name] = spectrum_distance(features, real)[0], patterns(features, real)[0]
    return found


# ---- the order of pictures


@pytest.mark.parametrize(
    "names",
    [
        ("as they are", "blur, sigma 0.5", "blur, sigma 1", "blur, sigma 2"),
        ("JPEG 90", "JPEG 50", "JPEG 20"),
        ("as they are", "noise, 2 levels", "noise, 8 levels"),
        ("as they are", "half size and back, smooth"),
    ],
)
def test_the_spectrum_orders_blur_jpeg_noise_and_resampling(scores, names):
    values = [scores[name][0] for name in names]
    assert values == sorted(values)
    assert values[-1] > 2 * values[0]


@pytest.mark.parametrize("kind", ["stripes of 2.5 px", "stripes of 6 px", "dots of 3 px"])
def test_stronger_patterns_have_higher_scores(scores, kind):
    for end in ("one direction", "any direction", "levels"):
        values = [value for name, (_, value) in scores.items() if name.startswith(kind) and name.endswith(end)]
        assert values == sorted(values)
        assert not values or values[-1] > 1


def test_patterns_stand_above_everything_that_is_none(scores):
    none = ("as they are", "JPEG", "blur", "noise", "half size and back, smooth")
    plain = max(value for name, (_, value) in scores.items() if name.startswith(none))
    assert plain < 0.6
    for name, (_, value) in scores.items():
        if name.startswith("stripes") and "6 levels" not in name:
            assert value > 1.5 * plain, name
        if name.startswith("transposed convolution"):
            assert value > plain, name


def test_real_against_real_is_near_nothing(scores):
    distance, pattern = scores["as they are"]
    assert distance < 0.5
    assert pattern < 0.4


# ---- what is measured


@pytest.mark.parametrize(
    ("period", "angle", "direction"),
    [
        (2.5, 0, "vertical"),
        (4, math.pi / 2, "horizontal"),
        (32 / math.hypot(4, 4), math.pi / 4, "rising"),
        (3, -math.pi / 4, "falling"),
    ],
)
def test_the_strongest_pattern_has_its_period_and_direction(real, period, angle, direction):
    found = strongest_pattern(spectrum_features(stripes(landscapes(20, seed=2), 12, period, angle)), real)
    assert found.period == pytest.approx(period, rel=0.1)
    assert found.stripes == direction
    assert found.excess > 3


def test_patterns_that_turn_from_place_to_place_have_no_direction(real):
    images = landscapes(24, seed=2)
    turned = torch.cat([stripes(image[None], 24, 4, index * math.pi / 24) for index, image in enumerate(images)])
    found = strongest_pattern(spectrum_features(turned), real)
    assert found.stripes is None
    assert 3 <= found.period <= 5


def test_the_excess_by_radius_and_direction_holds_the_score(real):
    features = spectrum_features(stripes(landscapes(20, seed=2), 12, 4, 0))
    excess = pattern_excess(features, real)
    assert float(excess.max()) == pytest.approx(patterns(features, real)[0])
    assert int(excess.argmax()) == (WINDOW // 4 - 1) * 4


def test_stripes_of_colour_count_as_grey_ones_of_equal_power_do(real):
    images = landscapes(10, seed=2)
    grey = stripes(images, 10, 4, 0)
    colours = torch.tensor([2.0, -1.0, 1.0])[:, None, None] / math.sqrt(2)
    coloured = images + (grey - images) * colours
    values = [patterns(spectrum_features(x), real)[0] for x in (grey, coloured)]
    assert values[0] == pytest.approx(values[1], rel=0.15)


def test_equal_images_have_no_distance(real):
    assert spectrum_distance(real, real)[0] == patterns(real, real)[0] == 0


def test_what_cannot_be_seen_counts_as_nothing():
    flat = torch.full((4, 3, 64, 64), 0.3)
    faint = spectrum_features(stripes(flat, 0.3, 4, 0))
    assert patterns(faint, spectrum_features(flat))[0] < 0.3
    assert float(radial_levels(spectrum_features(flat)).abs().max()) < 1e-3


@pytest.mark.parametrize(("channels", "size"), [(1, (32, 32)), (2, (33, 100)), (5, (700, 40))])
def test_images_of_any_channels_and_size_from_32_pixels_on_have_a_spectrum(channels, size):
    images = torch.rand(3, channels, *size) * 2 - 1
    features = spectrum_features(images)
    assert features.isfinite().all()
    assert features.shape == spectrum_features(landscapes(3, 0)).shape
    single = torch.cat([spectrum_features(image[None]) for image in images])
    assert torch.equal(features, single)  # of a batch as of one


def test_small_images_are_left_out():
    some = torch.cat([spectrum_features(landscapes(3, 0)), spectrum_features(torch.zeros(2, 3, 31, 64))])
    assert spectrum_distance(some, some) == (0, 0, 0)
    with pytest.raises(ValueError, match="needs 2 images .* at least 32 pixels, not 1"):
        patterns(some[2:], some)


def test_the_interval_shrinks_with_more_images_and_does_not_change(real):
    few, many = (spectrum_features(landscapes(count, seed=3)) for count in (6, 40))
    for score in (spectrum_distance, patterns):
        value, low, high = score(few, real, num_bootstrap=200, seed=1)
        assert low <= value <= high
        assert score(few, real, num_bootstrap=200, seed=1) == (value, low, high)
        again = score(many, real, num_bootstrap=200, seed=1)
        assert again[2] - again[0] < high - value

"""What a modern recipe is made of: losses, layers and schedules beyond the paper's, each by itself and in a step."""

import copy
import dataclasses
import json
import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from conftest import TINY, TINY_MODEL
from cyclegan import InputError, ModelConfig, train
from cyclegan.config import make_config
from cyclegan.networks import ResnetGenerator, build_discriminator, build_generator, build_heads
from cyclegan.networks.layers import (
    BlurConv2d,
    BlurConvTranspose2d,
    Conv2d,
    ConvTranspose2d,
    LayerNorm,
    SpectralConv2d,
    blur_kernels,
)
from cyclegan.networks.patch_projection import ProjectionHeads, sample
from cyclegan.step import TrainState, train_step
from cyclegan.step.losses import patch_contrastive_loss, r1_penalty, self_similarity, structure_loss
from cyclegan.step.state import set_learning_rate
from cyclegan.step.terms import TERMS
from cyclegan.storage.run import list_checkpoints
from cyclegan.training.schedule import cycle_factor_at

pytestmark = pytest.mark.usefixtures("without_pages")


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ---- the contrastive loss


def test_the_contrastive_loss_is_the_cross_entropy_of_finding_the_own_place():
    query, key = (F.normalize(random(2, 5, 3, seed=seed), dim=-1) for seed in (0, 1))
    expected = []
    for image in range(2):
        for place in range(5):
            similar = [math.exp(float(query[image, place] @ key[image, other]) / 0.5) for other in range(5)]
            expected.append(-math.log(similar[place] / sum(similar)))
    assert float(patch_contrastive_loss(query, key, 0.5)) == pytest.approx(np.mean(expected), rel=1e-5)


def test_the_contrastive_loss_is_small_for_equal_patches_and_log_of_their_number_for_uninformative_ones():
    key = torch.eye(16)[None]
    assert float(patch_contrastive_loss(key, key)) < 1e-4
    assert float(patch_contrastive_loss(key[:, :1].expand(1, 16, 16), key[:, :1].expand(1, 16, 16))) == pytest.approx(
        math.log(16)
    )


@pytest.mark.parametrize(("height", "width", "wanted"), [(8, 8, 10), (7, 9, 32), (16, 16, 16), (3, 5, 14)])
def test_places_are_taken_once_each_and_can_be_everywhere(height, width, wanted):
    pixels = torch.arange(height * width, dtype=torch.float32).reshape(1, 1, height, width)
    seen = set()
    for seed in range(200):
        places = torch.rand(wanted, generator=torch.Generator().manual_seed(seed))
        found = sample(pixels, places).flatten().tolist()
        assert len(found) == len(set(found)) == wanted
        seen.update(found)
    assert seen == set(range(height * width))


@pytest.mark.parametrize("wanted", [10, 32])
def test_places_may_be_rounded_to_one(wanted):
    """As 1 - 2**-26 in float64 is in float32."""
    pixels = torch.arange(64, dtype=torch.float32).reshape(1, 1, 8, 8)
    found = sample(pixels, torch.ones(wanted)).flatten().tolist()
    assert found == sorted(set(found))
    assert found[-1] == 63


def test_of_few_pixels_all_are_taken():
    pixels = random(2, 3, 4, 4)
    assert torch.equal(sample(pixels, torch.rand(16)), pixels.permute(0, 2, 3, 1).flatten(1, 2))


def test_the_same_places_are_taken_of_both_images():
    places = torch.rand(20)
    a, b = sample(random(1, 1, 32, 32), places), sample(2 * random(1, 1, 32, 32), places)
    assert torch.equal(2 * a, b)


def test_projections_have_length_one():
    heads = ProjectionHeads([4, 6], 8)
    found = heads([random(2, 4, 8, 8), random(2, 6, 4, 4)], torch.rand(2, 10))
    assert [x.shape for x in found] == [(2, 10, 8), (2, 10, 8)]
    for x in found:
        torch.testing.assert_close(x.norm(dim=-1), torch.ones(2, 10))


@pytest.mark.parametrize("generator", ["resnet", "unet"])
def test_activations_are_of_several_resolutions(generator):
    config = ModelConfig(**{**TINY_MODEL, "blocks": 5}, generator=generator, depth=5)
    found = build_generator(config, 3, 3, seed=0).features(random(1, 3, 32, 32), decode=False)
    assert len({h.shape[-1] for h in found}) > 1


def test_a_generator_is_run_as_far_as_its_middle_block_where_no_image_is_wanted():
    network = build_generator(ModelConfig(**{**TINY_MODEL, "blocks": 6}), 3, 3, seed=0)
    called = []
    for name, module in network.named_modules():
        module.register_forward_hook(lambda *_, name=name: called.append(name))
    network.features(random(1, 3, 16, 16), decode=False)
    assert "blocks.3" in called
    assert not {"blocks.4", "up.0", "head"} & set(called)


# ---- the discriminator


def test_the_penalty_on_real_images_is_the_squared_gradient_of_the_mean_score():
    weight = random(3, 4, 4)

    def scores(x):
        return torch.stack([(x * weight).sum((1, 2, 3)), 3 * (x * weight).sum((1, 2, 3))], 1)

    assert float(r1_penalty(scores, random(2, 3, 4, 4, seed=1))) == pytest.approx(
        4 * float(weight.square().sum()), rel=1e-5
    )


def test_the_penalty_on_real_images_can_be_trained_on():
    discriminator = build_discriminator(ModelConfig(**TINY_MODEL, init_gain=0.5), 3, seed=0)
    r1_penalty(discriminator, random(2, 3, 16, 16)).backward()
    assert discriminator.stem.weight.grad.abs().max() > 0


def test_spectral_norm_brings_the_largest_singular_value_to_one():
    conv, start = SpectralConv2d(3, 8, 4, 2, 1), torch.Generator().manual_seed(0)
    nn.init.normal_(conv.weight, generator=start)
    nn.init.normal_(conv.u, generator=start)
    x = random(1, 3, 16, 16)
    for _ in range(500):  # where the two largest values are close, each brings them only a little nearer
        conv.power_iteration()
    alone = conv(x) - conv.bias[:, None, None]
    largest = torch.linalg.matrix_norm(conv.weight.flatten(1), 2)
    torch.testing.assert_close(alone, F.conv2d(x, conv.weight / largest, None, 2, 1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["patch", "pixel", "pyramid"])
def test_spectral_norm_leaves_the_scores_their_scale(kind):
    model = ModelConfig(**TINY_MODEL, discriminator=kind, discriminator_norm="spectral")
    discriminator, x = build_discriminator(model, 3, seed=0), random(1, 3, 16, 16)
    nn.init.zeros_(discriminator.head.bias)
    before = discriminator(x)
    with torch.no_grad():
        discriminator.stem.weight.mul_(5)  # of no effect, the last one of all effect
        discriminator.head.weight.mul_(5)
    torch.testing.assert_close(discriminator(x), 5 * before)


PYRAMID = ModelConfig(**TINY_MODEL, discriminator="pyramid", init="kaiming")


def test_a_pyramid_shows_three_bands_that_add_up_to_the_image():
    x, two, four = random(2, 3, 24, 20), torch.tensor([1.0, 2, 1]) / 4, torch.tensor([1.0, 4, 6, 4, 1]) / 16

    def filtered(x, taps):
        half = len(taps) // 2
        kernel = torch.outer(taps, taps).expand(3, 1, -1, -1)
        return F.conv2d(F.pad(x, (half,) * 4, mode="reflect"), kernel, groups=3)

    smooth = filtered(x, two)
    coarse = filtered(filtered(smooth, four), four)
    bands = build_discriminator(PYRAMID, 3, seed=0).bands(x)
    torch.testing.assert_close(bands, torch.cat([coarse, 5 * (smooth - coarse), 10 * (x - smooth)], 1))
    torch.testing.assert_close(bands[:, :3] + bands[:, 3:6] / 5 + bands[:, 6:] / 10, x)
    for flat in (build_discriminator(PYRAMID, 3).bands(torch.full((1, 3, 16, 16), value)) for value in (-1.0, 0.3)):
        assert flat[:, 3:].abs().max() < 1e-5


def test_the_bands_of_a_pyramid_are_exact_in_16_bits_and_keep_the_memory_format():
    network, x = build_discriminator(PYRAMID, 3, seed=0), random(2, 3, 24, 20).bfloat16()
    exact = network.bands(x.double().float())
    for images in (x, x.contiguous(memory_format=torch.channels_last)):
        for seeing in (network, copy.deepcopy(network).bfloat16()):
            bands = seeing.bands(images)
            assert torch.equal(bands, exact.bfloat16())
            assert bands.is_contiguous() == images.is_contiguous()


def test_a_pyramid_reacts_to_fine_detail_where_a_patch_discriminator_hardly_does():
    x = torch.linspace(-0.5, 0.5, 32).expand(1, 3, 32, 32)
    stripes = 0.02 * (-1.0) ** torch.arange(32)

    @torch.no_grad()
    def reaction(kind):
        network = build_discriminator(PYRAMID.replace(discriminator=kind, norm="none"), 3, seed=0)
        plain = network(x)
        return float((network(x + stripes) - plain).norm() / plain.norm())

    assert reaction("pyramid") > 3 * reaction("patch")


def test_the_slope_of_a_pyramid_has_second_derivatives():
    discriminator = build_discriminator(PYRAMID, 3, seed=0)
    r1_penalty(discriminator, random(2, 3, 16, 16)).backward()
    assert discriminator.stem.weight.grad.abs().max() > 0
    x = random(1, 3, 8, 8).double().requires_grad_()
    assert torch.autograd.gradgradcheck(discriminator.double().bands, x)


def test_a_step_follows_the_weights_by_one_power_iteration():
    state = make_state(discriminator_norm="spectral")
    convs = [m for m in state.discriminator.modules() if isinstance(m, SpectralConv2d)]
    expected = []
    for conv in convs:
        matrix = conv.weight.detach().flatten(1)
        expected.append(F.normalize(matrix @ (matrix.T @ conv.u), dim=0))
    train_step(state, *images())
    assert convs
    for conv, u in zip(convs, expected, strict=True):
        torch.testing.assert_close(conv.u, u, rtol=1e-4, atol=1e-6)


# ---- layers


def test_a_pixel_norm_normalises_the_channels_of_each_pixel():
    x = 3 + 2 * random(2, 16, 5, 7)
    y = LayerNorm(16)(x)
    torch.testing.assert_close(y.mean(1), torch.zeros(2, 5, 7), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var(1, unbiased=False), torch.ones(2, 5, 7), atol=1e-3, rtol=0)


def test_a_generator_with_pixel_norm_sees_only_the_neighbourhood():
    config = ModelConfig(**TINY_MODEL, norm="layer", init_gain=0.2)
    network = build_generator(config, 3, 3, seed=0)
    x = random(1, 3, 128, 128)
    other = x.clone()
    other[..., 96:] = 1
    assert torch.equal(network(x)[..., :48], network(other)[..., :48])
    with_instance = build_generator(config.replace(norm="instance"), 3, 3, seed=0)
    assert not torch.allclose(with_instance(x)[..., :48], with_instance(other)[..., :48])


def test_a_pixel_norm_of_half_precision_is_close_to_that_of_float32():
    x = random(2, 8, 6, 6)
    half = LayerNorm(8)(x.to(torch.bfloat16).contiguous(memory_format=torch.channels_last))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), LayerNorm(8)(x), atol=0.03, rtol=0.03)


# 1 2 1 over 4, both ways.
FILTER = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16


def test_the_filter_of_resampling_is_one_two_one_both_ways():
    one = torch.zeros(1, 1, 3, 3)
    one[..., 1, 1] = 1
    expected = torch.zeros(5, 5)
    expected[1:4, 1:4] = FILTER
    torch.testing.assert_close(blur_kernels(one)[0, 0], expected)


def test_a_smooth_convolution_is_the_filter_and_then_the_convolution():
    x, kernel = random(1, 4, 20, 16), FILTER.expand(4, 1, 3, 3)
    smooth = BlurConv2d(4, 6, 3, 2, 1)
    filtered = F.conv2d(x, kernel, padding=1, groups=4)
    expected = F.conv2d(filtered, smooth.weight, smooth.bias, 2, 1)
    assert smooth(x).shape == expected.shape == (1, 6, 10, 8)
    torch.testing.assert_close(smooth(x)[..., 1:, 1:], expected[..., 1:, 1:])  # the border is padded earlier
    torch.testing.assert_close(smooth.to_plain()(x), smooth(x))
    assert type(smooth.to_plain()) is not BlurConv2d


def test_a_smooth_transposed_convolution_is_the_convolution_and_then_the_filter():
    x, kernel = random(1, 4, 10, 8), FILTER.expand(6, 1, 3, 3)
    smooth = BlurConvTranspose2d(4, 6, 3, 2, 1, output_padding=1)
    raw = F.conv_transpose2d(x, smooth.weight, None, 2, 1, 1)
    expected = F.conv2d(raw, kernel, smooth.bias, padding=1, groups=6)
    assert smooth(x).shape == expected.shape == (1, 6, 20, 16)
    inner = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(smooth(x)[inner], expected[inner])
    torch.testing.assert_close(smooth.to_plain()(x), smooth(x))
    assert type(smooth.to_plain()) is not BlurConvTranspose2d


@pytest.mark.parametrize("make", [Conv2d, BlurConv2d])
def test_a_convolution_with_reflection_sees_a_mirrored_image(make):
    x, conv = random(1, 4, 12, 8), make(4, 6, 3, 2, 1)
    mirrored = F.pad(x, (4, 4, 4, 4), mode="reflect")
    expected = conv(mirrored)[..., 2:-2, 2:-2]
    assert not torch.allclose(conv(x), expected)
    conv.padding_mode = "reflect"
    torch.testing.assert_close(conv(x), expected)
    if make is BlurConv2d:
        torch.testing.assert_close(conv.to_plain()(x), expected)


@pytest.mark.parametrize("make", [ConvTranspose2d, BlurConvTranspose2d])
def test_a_transposed_convolution_with_reflection_sees_a_mirrored_image(make):
    x, conv = random(1, 4, 6, 5), make(4, 6, 3, 2, 1, output_padding=1)
    expected = conv(F.pad(x, (2, 2, 2, 2), mode="reflect"))[..., 4:-4, 4:-4]
    assert not torch.allclose(conv(x), expected)
    conv.padding_mode = "reflect"
    torch.testing.assert_close(conv(x), expected)
    if make is BlurConvTranspose2d:
        torch.testing.assert_close(conv.to_plain()(x), expected)


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("norm", ["layer", "instance"])
def test_a_flat_image_stays_flat_with_reflection_at_every_border(norm, skips):
    def unevenness(padding):
        settings = {"resampling": "smooth", "norm": norm, "skips": skips, "padding": padding, "init": "kaiming"}
        network = build_generator(ModelConfig(**TINY_MODEL, **settings), 3, 3, seed=3)
        with torch.no_grad():
            for name, bias in network.named_parameters():
                if name.endswith("bias"):
                    bias.uniform_(-1, 1, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            return float(network(torch.full((1, 3, 64, 64), 0.5)).std((-2, -1)).max())

    assert unevenness("reflect") < 1e-3
    assert unevenness("zeros") > 0.05


def test_skips_pass_detail_of_the_input_around_the_coarse_layers():
    network = build_generator(ModelConfig(**TINY_MODEL, norm="layer", skips=True, init="kaiming"), 3, 3, seed=0)
    with torch.no_grad():
        for up in network.up:  # nothing comes from below
            up.weight.zero_()
    x = random(1, 3, 32, 32).requires_grad_()
    (grad,) = torch.autograd.grad(network(x)[0, :, 16, 16].sum(), x)
    assert grad.abs().max() > 0
    rows = grad.abs().sum((0, 1, 3)).nonzero()
    assert int(rows.max() - rows.min()) + 1 == 7 + 2 + 2  # the stem's 7x7, and twice 3x3


def test_smooth_resampling_draws_no_checkerboard():
    @torch.no_grad()
    def unevenness(resampling):
        config = ModelConfig(**TINY_MODEL, resampling=resampling, norm="none", init="xavier", init_gain=1.0)
        inside = build_generator(config, 3, 3, seed=3)(torch.full((1, 3, 64, 64), 0.5))[..., 24:-24, 24:-24]
        return float(inside.std((-2, -1)).max())

    assert unevenness("smooth") < 0.01 * unevenness("strided")


@pytest.mark.parametrize("kind", [{}, {"generator": "unet", "depth": 5}])
@pytest.mark.parametrize("channels", [(3, 3), (1, 3), (3, 2)])
def test_with_a_global_skip_a_network_decides_how_much_of_its_input_stays(kind, channels):
    network = build_generator(ModelConfig(**{**TINY_MODEL, **kind}, global_skip=True), *channels, seed=0)
    last = network.head if isinstance(network, ResnetGenerator) else network.up[0]
    torch.nn.init.zeros_(last.weight)
    x = random(2, channels[0], 32, 32).clamp(-1, 1)
    given = x if channels[0] == channels[1] else x.mean(1, keepdim=True).expand(-1, channels[1], -1, -1)
    # As it begins, of 0.95 times the input it keeps 0.88 before the tanh.
    torch.testing.assert_close(network(x), torch.tanh(torch.sigmoid(torch.tensor(2.0)) * torch.atanh(0.95 * given)))
    with torch.no_grad():
        last.bias[-1] = 30
        torch.testing.assert_close(network(x), 0.95 * given)
        last.bias[-1] = -30
        torch.testing.assert_close(network(x), torch.zeros_like(network(x)))
        last.bias[0] = 0.5  # what it makes itself
        torch.testing.assert_close(network(x)[:, 0], torch.full_like(x[:, 0], 0.5).tanh())


def test_the_structure_of_an_image_is_that_of_its_negative_and_of_its_grey_picture_but_not_of_another():
    x = random(1, 1, 24, 20).expand(-1, 3, -1, -1).clamp(-1, 1)
    assert float(structure_loss(x, x)) == 0
    assert float(structure_loss(x, -x)) == 0
    assert float(structure_loss(x, x[:, :1])) < 1e-6
    assert float(structure_loss(x, x.roll(3, -1))) > 0.1
    assert float(structure_loss(x, torch.zeros_like(x))) > 0.1


def test_structure_compares_the_patch_around_a_pixel_with_those_around_its_four_neighbours():
    x = torch.zeros(1, 1, 5, 5)
    x[..., 3:] = 1.0
    # The patch around the middle pixel has its edge in its last column. In the one to the right, and in the one to the
    # left, one column of three is another; above and below all is the same.
    found = self_similarity(x, flat=0.0)
    assert found.shape == (1, 4, 1, 1)
    mean = (1 / 3 + 1 / 3) / 4
    same = math.exp(-(1 / 3) / mean)
    torch.testing.assert_close(found.flatten(), torch.tensor([same, same, 1.0, 1.0]))


# ---- the step


def test_the_projections_follow_the_learning_rate():
    state = make_state(contrastive_weight=2.0)
    set_learning_rate(state, 0.0)
    before = [weight.clone() for weight in state.heads.parameters()]
    train_step(state, *images())
    assert all(torch.equal(weight, old) for weight, old in zip(state.heads.parameters(), before, strict=True))
    set_learning_rate(state, 1e-3)
    train_step(state, *images())
    assert not any(torch.equal(weight, old) for weight, old in zip(state.heads.parameters(), before, strict=True))


EVERYTHING = {
    "contrastive_weight": 2.0,
    "cycle_end": 0.1,
    "cycle_noise": 0.05,
    "r1_weight": 1.0,
    "discriminator_norm": "spectral",
    "norm": "layer",
    "resampling": "smooth",
    "global_skip": True,
    "skips": True,
    "padding": "reflect",
    "structure_weight": 2.0,
}


def make_state(**settings):
    return TrainState.create(make_config({**TINY_MODEL, "crop_size": 16, "steps": 10, **settings}, preset="paper"))


def images(seed=0):
    draw = torch.Generator().manual_seed(seed)
    return tuple(torch.rand(1, 3, 16, 16, generator=draw) * 2 - 1 for _ in range(2))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", [name for name in EVERYTHING if name != "cycle_end"])  # which is of a training
def test_a_step_works_with_each_alone_and_is_another_one(name, precision):
    states = [make_state(**given, precision=precision) for given in ({name: EVERYTHING[name]}, {})]
    before = states[0].generator.a2b.head.weight.clone()
    for state in states:
        for seed in range(2):
            losses = train_step(state, *images(seed))
            assert all(math.isfinite(float(loss)) for loss in losses.values())
    after, without = (state.generator.a2b.head.weight for state in states)
    assert not torch.equal(after, before)
    assert not torch.equal(after, without)


def test_a_step_works_with_all_and_changes_the_heads():
    state = make_state(**EVERYTHING)
    before = [parameter.clone() for parameter in state.heads.parameters()]
    losses = train_step(state, *images())
    assert float(losses["contrastive_a2b"]) > 0
    assert float(losses["contrastive_b2a"]) > 0
    weights = [(old, new) for old, new in zip(before, state.heads.parameters(), strict=True) if old.ndim == 2]
    assert all(not torch.equal(old, new) for old, new in weights)


def contrastive_alone():
    """No cycle, no identity, and an adversarial loss too small to move a weight by a hundredth of the learning rate."""
    return make_state(contrastive_weight=1.0, cycle_weight=0.0, identity_weight=0.0, adversarial_weight=1e-12)


def test_the_contrastive_loss_falls():
    state = contrastive_alone()
    a, b = images()
    terms = []
    for _ in range(40):
        losses = train_step(state, a, b)
        terms.append(float(losses["contrastive_a2b"] + losses["contrastive_b2a"]))
    assert np.mean(terms[-5:]) < 0.8 * np.mean(terms[:5])


def test_the_contrastive_loss_teaches_the_translation_and_its_features_and_not_the_keys(monkeypatch):
    # In one direction alone.
    one_way = dataclasses.replace(TERMS["contrastive"], weight=lambda _, direction: float(direction == "a2b"))
    monkeypatch.setitem(TERMS, "contrastive", one_way)
    state = contrastive_alone()
    networks = {"a2b": state.generator.a2b, "b2a": state.generator.b2a, "of a": state.heads.a, "of b": state.heads.b}
    before = {f"{key} {name}": p.clone() for key, n in networks.items() for name, p in n.named_parameters()}
    train_step(state, *images())
    change = {
        f"{key} {name}": (p.detach() - before[f"{key} {name}"]).abs().max().item()
        for key, n in networks.items()
        for name, p in n.named_parameters()
    }
    rate = state.config.learning_rate
    taught = [
        change[name] for name in ("a2b stem.weight", "a2b head.weight", "b2a stem.weight", "of b layers.0.0.weight")
    ]
    assert min(taught) > 0.5 * rate
    # What knows the input, and what decodes on the way back, which nobody looks at.
    others = [value for name, value in change.items() if name.startswith("of a") or name == "b2a head.weight"]
    assert max(others) < 0.01 * rate


@pytest.mark.parametrize("left_out", [(), ("contrastive_weight",)])
def test_directions_side_by_side_give_the_same_bits_and_say_nothing(left_out):
    states = []
    for num_threads in (2, 1):  # side by side each has one of two
        torch.set_num_threads(num_threads)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                state = make_state(**{name: value for name, value in EVERYTHING.items() if name not in left_out})
                for seed in range(3):
                    train_step(state, *images(seed))
        finally:
            torch.set_num_threads(1)
        states.append(state)
    first, second = (
        [*s.generator.parameters(), *s.discriminator.parameters(), *s.discriminator.buffers()]
        + ([] if s.heads is None else [*s.heads.parameters()])
        for s in states
    )
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


def test_noise_is_on_the_way_back_alone():
    with_noise, without = make_state(cycle_noise=0.5), make_state()
    noisy, plain = train_step(with_noise, *images()), train_step(without, *images())
    assert float(noisy["adversarial_a2b"]) == float(plain["adversarial_a2b"])
    assert float(noisy["identity_a"]) == float(plain["identity_a"]) > 0
    assert float(noisy["cycle_a"]) != float(plain["cycle_a"])


def test_the_penalty_on_real_images_is_taken_every_sixteenth_step():
    taken = []
    with_penalty, without = make_state(r1_weight=100.0, learning_rate=1e-9), make_state(learning_rate=1e-9)
    for _ in range(18):
        ours, theirs = train_step(with_penalty, *images()), train_step(without, *images())
        taken.append(abs(float(ours["discriminator_a"]) - float(theirs["discriminator_a"])) > 1e-3)
    assert [step for step, was in enumerate(taken) if was] == [0, 16]


def test_the_cycle_weights_fall_evenly():
    config = make_config({"steps": 100, "cycle_end": 0.2})
    assert [cycle_factor_at(config, step, 100) for step in (0, 50, 100, 120)] == pytest.approx([1.0, 0.6, 0.2, 0.2])
    state = make_state()
    state.execution.cycle_factor.fill_(0.5)
    assert float(train_step(state, *images())["cycle_a"]) == pytest.approx(
        0.5 * float(train_step(make_state(), *images())["cycle_a"]), rel=1e-5
    )


def test_in_a_training_the_cycle_weights_fall(folders, tmp_path):
    settings = {**TINY, "steps": 10, "log_steps": 1}
    terms = []
    for name, end in (("whole", 1.0), ("falling", 0.0)):
        run = train(*folders, out=tmp_path / name, quiet=True, **settings, cycle_end=end)
        lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        terms.append([line["cycle_a"] for line in lines if "cycle_a" in line])
    whole, falling = terms
    assert len(falling) == len(whole) == 10
    assert falling[0] == whole[0]
    assert falling[-1] == pytest.approx(0.1 * whole[-1], rel=0.2)


def test_a_run_that_went_on_ends_like_an_uninterrupted_one(folders, tmp_path):
    settings = {**TINY, **EVERYTHING, "steps": 40, "checkpoint_steps": 10, "keep_checkpoints": 9}
    whole = train(*folders, out=tmp_path / "whole", quiet=True, **settings)
    part = train(*folders, out=tmp_path / "part", quiet=True, **settings)
    for checkpoint in list_checkpoints(part)[:-2]:
        for path in sorted(checkpoint.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        checkpoint.rmdir()
    again = train(*folders, out=part, quiet=True, **settings)
    ours, theirs = (list_checkpoints(run)[0] for run in (again, whole))
    assert ours.name == theirs.name == "step_0000040"
    for path in sorted(theirs.rglob("*.safetensors")):
        assert (ours / path.relative_to(theirs)).read_bytes() == path.read_bytes(), path.name


def test_heads_are_as_wide_as_the_residual_blocks():
    config = ModelConfig(width=8, blocks=3)
    heads = build_heads(config, build_generator(config, 3, 3, seed=0), seed=1)
    assert heads.layers[0][2].out_features == 32


def test_a_smooth_unet_is_refused():
    with pytest.raises(InputError, match="resampling"):
        make_config({"generator": "unet", "resampling": "smooth"})

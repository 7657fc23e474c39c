import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cyclegan import InputError, ModelConfig, Translator
from cyclegan.images.formats import ImageFormat
from cyclegan.networks import build_generator
from cyclegan.networks.external_statistics import instance_norms, instance_statistics, with_external_stats
from cyclegan.storage.model import ModelInfo
from cyclegan.translate.plan import sequences
from cyclegan.translate.stabilise import Stabiliser, is_cut, needs_stabilising, thumbnail

RESNET = ModelConfig(width=4, blocks=1)
UNET = ModelConfig(generator="unet", width=4, depth=5)


def network(config=RESNET, gain=0.3):
    return build_generator(config.replace(init_gain=gain), 3, 3, seed=0).eval().requires_grad_(False)


def translator(config=RESNET):
    about = {"preprocess": "none", "load_size": 16, "crop_size": 16, "step": 0, "translate_with": "final"}
    info = ModelInfo(cyclegan_version="0", model=config, a=ImageFormat(), b=ImageFormat(), **about)
    return Translator(network(config), info, "a2b", torch.device("cpu"))


def scene(count, seed=0, size=32, noise=0.05):
    """Frames of one place: (count, 3, size, size) in [-1, 1], each a little brighter than the one before it."""
    generator = torch.Generator().manual_seed(seed)
    place = F.interpolate(torch.rand(1, 3, 5, 5, generator=generator) * 1.6 - 1, size=size, mode="bilinear")
    frames = place + 0.02 * torch.arange(count)[:, None, None, None]
    return (frames + noise * torch.randn(count, 3, size, size, generator=generator)).clamp(-1, 1)


def test_statistics_are_the_exponential_mean_worked_by_hand():
    norm = nn.InstanceNorm2d(1, eps=0.0)
    frames = torch.tensor([[0.0, 2.0], [4.0, 8.0], [1.0, 1.0]]).reshape(3, 1, 1, 2)
    stabiliser = Stabiliser(nn.Sequential(norm), memory_frames=2, find_cuts=False)
    results = [stabiliser(frame[None]).flatten().tolist() for frame in frames]
    # Weights 1, 1/2, 1/2. Means: 1, (1 + 6) / 2, (3.5 + 1) / 2. Means of squares: 2, (2 + 40) / 2, (21 + 1) / 2.
    for values, (low, high), mean, squares in zip(
        results, [(0, 2), (4, 8), (1, 1)], (1, 3.5, 2.25), (2, 21, 11), strict=True
    ):
        deviation = (squares - mean**2) ** 0.5
        assert values == pytest.approx([(low - mean) / deviation, (high - mean) / deviation], abs=1e-5)


@pytest.mark.parametrize("config", [RESNET, UNET])
def test_without_a_memory_the_result_is_that_of_the_network(config):
    net, frames = network(config), scene(3, size=64)
    assert torch.allclose(Stabiliser(net, memory_frames=1)(frames), net(frames), atol=1e-5)


@pytest.mark.parametrize("config", [RESNET, UNET])
def test_a_constant_clip_is_translated_as_without(config):
    net = network(config)
    frame = scene(1, size=64)
    stabiliser = Stabiliser(net)
    for _ in range(10):
        assert torch.allclose(stabiliser(frame), net(frame), atol=1e-5)


@pytest.mark.parametrize("config", [RESNET, UNET])
def test_frames_in_batches_are_as_frames_one_by_one(config):
    net, frames = network(config), torch.cat([scene(4, size=64), scene(4, seed=1, size=64)])
    stabiliser = Stabiliser(net)
    one_by_one = torch.cat([stabiliser(frame[None]) for frame in frames])
    stabiliser = Stabiliser(net)
    together = torch.cat([stabiliser(part) for part in frames.split(3)])
    assert torch.allclose(one_by_one, together, atol=1e-5)
    assert not torch.allclose(one_by_one[1:4], net(frames[1:4]), atol=1e-3)


def test_a_cut_starts_over_only_with_the_detector():
    net = network()
    before, after = scene(5), scene(5, seed=1)
    alone = Stabiliser(net)(after)
    for find_cuts in (True, False):
        stabiliser = Stabiliser(net, find_cuts=find_cuts)
        stabiliser(before)
        assert torch.allclose(stabiliser(after), alone, atol=1e-5) == find_cuts


def test_noise_in_the_statistics_is_averaged_away():
    # A still picture under light that changes at random: what is left is the light, not what instance norm makes of it.
    norm = nn.Sequential(nn.InstanceNorm2d(3))
    still = scene(1, noise=0).repeat(60, 1, 1, 1)
    frames = still.clone()
    frames[:, :, :8, :8] = torch.rand(60, 1, 1, 1, generator=torch.Generator().manual_seed(0)) * 2 - 1  # a lamp
    rest = (..., slice(8, None), slice(8, None))
    with_memory, without = Stabiliser(norm, memory_frames=12)(frames)[rest], norm(frames)[rest]
    assert with_memory[20:].diff(dim=0).abs().mean() < 0.3 * without[20:].diff(dim=0).abs().mean()


def test_the_network_and_what_others_hold_of_it_stay_as_they_are():
    net = network()
    twin_before, frames = copy.deepcopy(net), scene(4)
    plain = net(frames)
    stabiliser = Stabiliser(net)
    stabiliser(frames)
    assert torch.equal(net(frames), plain)  # also while a stabiliser of it is in use
    assert str(net) == str(twin_before)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin_before.parameters(), strict=True))


def test_weights_are_shared_and_statistics_can_come_from_anywhere():
    net, frame = network(), scene(1)
    seen = []
    twin = with_external_stats(net, lambda name: lambda x: seen.append(name) or instance_statistics(x))
    assert torch.allclose(twin(frame), net(frame), atol=1e-5)
    assert seen == list(instance_norms(net))
    pointers = {parameter.data_ptr() for parameter in net.parameters()}
    assert {parameter.data_ptr() for parameter in twin.parameters()} == pointers


def test_statistics_are_float32_in_any_precision_of_the_network():
    # A mean far from 0 and a small spread: in bfloat16 nothing would be left of it.
    x = torch.randn(1, 2, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.5 + 50
    mean, variance = instance_statistics(x.bfloat16())
    assert mean.dtype == variance.dtype == torch.float32
    result = Stabiliser(nn.Sequential(nn.InstanceNorm2d(2)))(x.bfloat16())
    assert result.dtype == torch.bfloat16
    assert result.float().std() == pytest.approx(1, abs=0.05)


def test_learned_scales_are_kept():
    norm = nn.InstanceNorm2d(2, affine=True).requires_grad_(False)
    norm.weight.copy_(torch.tensor([2.0, 0.5]))
    norm.bias.copy_(torch.tensor([-1.0, 3.0]))
    net = nn.Sequential(norm)
    x = torch.randn(1, 2, 8, 8)
    assert torch.allclose(Stabiliser(net)(x), net(x), atol=1e-5)


@pytest.mark.parametrize(("norm", "needed"), [("instance", True), ("batch", False), ("none", False)])
def test_only_instance_norm_needs_stabilising(norm, needed):
    net = network(RESNET.replace(norm=norm))
    assert needs_stabilising(net) == needed
    if not needed:
        frames = scene(3)
        assert torch.equal(Stabiliser(net)(frames), net(frames))


def test_cuts_and_flashes_are_distinguished_from_motion_exposure_and_fades():
    one, other = scene(1, noise=0)[0], scene(1, seed=1, noise=0)[0]

    def cut(before, after):
        return is_cut(thumbnail(before), thumbnail(after))

    assert cut(one, other)
    assert cut(other, one)
    assert not cut(one, one)
    assert not cut(one, one.roll(3, -1))  # a pan by a tenth of the width
    assert not cut(one, (one + 0.2).clamp(-1, 1))  # a camera finds its exposure
    assert cut(one, (one + 0.5).clamp(-1, 1))  # the light is switched on
    assert cut(one, one * 0.5 + 0.5)  # a lightning
    assert cut(one, torch.ones_like(one))  # a flash to plain white
    assert cut(torch.ones_like(one), one)
    for share in np.linspace(0, 1, 12)[:-1]:  # a dissolve and a fade
        now, then = float(share), float(share) + 1 / 11
        assert not cut(one * (1 - now) + other * now, one * (1 - then) + other * then)
        assert not cut(one * (1 - now) - now, one * (1 - then) - then)


def test_thumbnails_of_any_size_and_number_of_channels_can_be_compared():
    small, large = torch.full((5, 9, 7), 0.5), torch.full((5, 90, 33), -0.5)
    assert thumbnail(small).shape == thumbnail(large).shape == (5, 16, 16)
    assert is_cut(thumbnail(small), thumbnail(large))


def test_a_sequence_is_stabilised_by_the_translator_and_each_starts_over():
    model = translator()
    frames = [((frame.permute(1, 2, 0) + 1) * 127.5).to(torch.uint8).numpy() for frame in scene(6, noise=0.2)]
    plain = list(model.translate(frames))
    stable = list(model.translate(frames, stabilise=True))
    again = list(model.translate(frames, stabilise=True, batch_size=4))
    assert np.array_equal(stable[0], plain[0])
    assert not np.array_equal(stable[5], plain[5])
    assert max(np.abs(a.astype(int) - b).max() for a, b in zip(stable, again, strict=True)) <= 1
    assert np.array_equal(plain[5], list(model.translate(frames))[5])
    for wrong in (0, 0.5, float("nan")):
        with pytest.raises(InputError, match=f"memory_frames is {wrong}; expected at least 1"):
            list(model.translate(frames, stabilise=True, memory_frames=wrong))


def test_each_folder_is_a_sequence_in_the_natural_order_of_names(tmp_path):
    names = ["a/frame10.png", "a/frame2.png", "b/x.png", "a/frame1.png", "a/frame002.png"]
    plan = [(tmp_path / name, tmp_path / "out" / name) for name in names]
    ordered = [[source.relative_to(tmp_path).as_posix() for source, _ in part] for part in sequences(plan)]
    assert ordered == [["a/frame1.png", "a/frame002.png", "a/frame2.png", "a/frame10.png"], ["b/x.png"]]

"""Holes of training images: no loss counts them, and without them nothing changes."""

import numpy as np
import pytest
import torch
from test_recording import Devices, StandIn
from torch.nn import functional as F

from conftest import HAS_CUDA, TINY, TINY_MODEL
from cyclegan import train
from cyclegan.config import PRESETS, make_config
from cyclegan.errors import InputError
from cyclegan.step import TrainState, train_step
from cyclegan.step.cuda_graphs import WARM_UP_CALLS, CudaRecorder, graph_step
from cyclegan.step.image_pool import ImagePool
from cyclegan.step.losses import (
    cycle_loss,
    discriminator_loss,
    generator_loss,
    patch_contrastive_loss,
    patch_weights,
    r1_penalty,
    structure_loss,
)
from cyclegan.step.update import discriminator_gradients, generator_gradients, run_step
from cyclegan.storage.run import list_checkpoints
from cyclegan.training import Batch, StepDone

# In float32, whatever this machine is fast in.
MODERN = {**PRESETS["modern"], "precision": "fp32"}


EVERY_TERM = {"contrastive_weight": 1.0, "structure_weight": 1.0, "r1_weight": 1.0}


def random(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def state_and_images(height=16, width=16, batch=2, device="cpu", **settings):
    settings = {**TINY_MODEL, "crop_size": 16, "steps": 10, "pool_size": 2, **settings}
    state = TrainState.create(make_config(settings, preset="paper"), device)
    return state, random(batch, 3, height, width).to(device), random(batch, 3, height, width, seed=1).to(device)


def mask_of(images, columns):
    """Valid in the first columns."""
    mask = torch.ones_like(images[:, :1])
    mask[..., columns:] = 0
    return mask


def values(losses):
    return {name: loss.item() for name, loss in losses.items()}


# ---- the functions


def test_losses_are_means_over_valid_pixels():
    real, other = random(2, 3, 8, 8), random(2, 3, 8, 8, seed=1)
    mask = mask_of(real, 5)
    mask[1] = 0
    assert float(cycle_loss(real, other, mask)) == pytest.approx(
        float(F.l1_loss(real[:1, :, :, :5], other[:1, :, :, :5]))
    )
    whole = float(structure_loss(real[:1, :, :, :5], other[:1, :, :, :5]))
    assert float(structure_loss(real, other, mask)) == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("kind", ["lsgan", "vanilla", "hinge", "wgan-gp"])
def test_patches_weigh_as_much_as_they_show_valid_pixels(kind):
    score, fake = random(1, 1, 2, 4), random(1, 1, 2, 4, seed=1)
    mask = mask_of(torch.zeros(1, 1, 8, 16), 10)  # columns of patches: whole, whole, half, hole
    weights = patch_weights(mask, score)
    assert weights[0, 0].tolist() == [[1, 1, 0.5, 0]] * 2
    columns = [0, 0, 1, 1, 2]  # twice what weighs twice as much
    expected = generator_loss(kind, score[..., columns])
    assert float(generator_loss(kind, score, weights)) == pytest.approx(float(expected))
    expected = discriminator_loss(kind, score[..., columns], fake)
    assert float(discriminator_loss(kind, score, fake, weights)) == pytest.approx(float(expected))
    expected = discriminator_loss(kind, score, fake[..., columns])
    assert float(discriminator_loss(kind, score, fake, None, weights)) == pytest.approx(float(expected))


def test_a_patch_in_a_hole_is_neither_matched_nor_a_negative_of_others():
    query, key = (F.normalize(random(1, 6, 4, seed=seed), dim=-1) for seed in (0, 1))
    weights = torch.tensor([[1.0, 1, 1, 1, 0, 0]])
    expected = float(patch_contrastive_loss(query[:, :4], key[:, :4]))
    assert float(patch_contrastive_loss(query, key, weights=weights)) == pytest.approx(expected, rel=1e-6)
    assert float(patch_contrastive_loss(query, key, weights=torch.zeros(1, 6))) == 0


def test_the_penalty_on_real_images_leaves_out_the_scores_of_holes():
    kernel = random(1, 3, 4, 4)
    real = random(1, 3, 8, 16, seed=1)

    def scores(images):
        return F.conv2d(images.square(), kernel, stride=4)

    expected = r1_penalty(scores, real[..., :8]).item()
    assert r1_penalty(scores, real, mask_of(real, 8)).item() == pytest.approx(expected, rel=1e-5)
    assert r1_penalty(scores, real, mask_of(real, 0)).item() == 0


# ---- the step


@pytest.mark.parametrize(
    "settings",
    [
        {},
        EVERY_TERM,
        MODERN,
        {"adversarial": "vanilla"},
        {"adversarial": "hinge", "norm": "batch"},
        {"adversarial": "wgan-gp"},
    ],
)
def test_a_mask_without_holes_gives_the_losses_of_no_mask(settings):
    plain, *images = state_and_images(**settings)
    masked, *_ = state_and_images(**settings)
    ones = torch.ones(2, 1, 16, 16)
    for _ in range(2):
        expected, found = train_step(plain, *images), train_step(masked, *images, mask_a=ones, mask_b=ones)
        assert values(found) == pytest.approx(values(expected), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("settings", [{**EVERY_TERM, "cycle_noise": 0.05}, {"adversarial": "wgan-gp"}, MODERN])
def test_images_that_are_all_hole_count_nowhere(settings, precision):
    state, real_a, real_b = state_and_images(**{**settings, "precision": precision})
    losses = values(train_step(state, real_a, real_b, mask_a=mask_of(real_a, 0), mask_b=mask_of(real_b, 0)))
    if settings.get("adversarial") != "wgan-gp":  # its penalty has no mask
        assert set(losses.values()) == {0}
    train_step(state, real_a, real_b, mask_a=mask_of(real_a, 0), mask_b=mask_of(real_b, 8))
    for network in (state.generator, state.discriminator):
        assert all(torch.isfinite(parameter).all() for parameter in network.parameters())


def test_what_stands_in_holes_changes_neither_losses_nor_gradients():
    """But within the receptive fields, here less than 64 pixels: no norm mixes all pixels of an image."""
    settings = {**EVERY_TERM, "norm": "none", "discriminator_norm": "none", "height": 16, "width": 160}
    found = []
    for fill in (-1.0, 0.7):
        state, real_a, real_b = state_and_images(**settings)
        mask_a, mask_b = mask_of(real_a, 64), mask_of(real_b, 48)
        real_a[..., 128:], real_b[..., 128:] = fill, fill
        losses = [values(train_step(state, real_a, real_b, mask_a=mask_a, mask_b=mask_b)) for _ in range(2)]
        gradients = torch.cat([state.generator_weights.grad, state.discriminator_weights.grad])
        found.append((losses, gradients))
    (losses, gradients), (other_losses, other_gradients) = found
    for one, other in zip(losses, other_losses, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    assert torch.allclose(gradients, other_gradients, rtol=1e-3, atol=1e-6)
    assert gradients.abs().max() > 1e-3


def test_two_threads_do_the_same():
    losses = []
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        try:
            state, real_a, real_b = state_and_images(**EVERY_TERM)
            masks = {"mask_a": mask_of(real_a, 7), "mask_b": mask_of(real_b, 11)}
            losses.append([values(train_step(state, real_a, real_b, **masks)) for _ in range(2)])
            state.close()
        finally:
            torch.set_num_threads(1)
    assert losses[0] == losses[1]


# ---- the image pool


def test_masks_stay_beside_their_images_in_the_pool():
    pool, rng = ImagePool(3), np.random.default_rng(0)

    def query(value, mask):
        image = torch.full((1, 1, 2, 2), float(value))
        found, found_mask = pool.query_with_masks(image, None if mask is None else image / 100, rng)
        return found[0, 0, 0, 0].item(), None if mask is None else found_mask[0, 0, 0, 0].item()

    assert query(7, None) == (7, None)
    assert pool.masks == []
    exchanged = [query(value, True) for value in range(10, 60)]
    old = [mask for value, mask in exchanged if value == 7]
    assert old == [1]  # stored when there were no holes
    assert all(mask == pytest.approx(value / 100) for value, mask in exchanged if value != 7)
    assert len(pool.masks) == len(pool.images) == 3
    image, mask = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    assert ImagePool(0).query_with_masks(image, mask, rng) == (image, mask)


# ---- recorded steps


@pytest.mark.parametrize("settings", [{}, MODERN, {"precision": "bf16"}, {"adversarial_weight": 0}])
def test_a_recorded_step_begins_anew_at_the_first_hole_of_each_domain(settings):
    def run(step):
        state, real_a, real_b = state_and_images(**settings)
        losses = []
        for number in range(21):
            a, b = real_a.roll(number, -1), real_b.roll(number, -1)
            masks = {}
            if number in (5, 7, 20):
                masks["mask_a"] = mask_of(a, 9)
            if number in (13, 15):
                masks["mask_b"] = mask_of(b, 12)
            losses.append(values(step(state, a, b, **masks)))
        return losses, state

    expected, _ = run(train_step)
    recorder = StandIn()
    found, state = run(graph_step(recorder))
    assert found == expected
    updates = 1 if settings.get("adversarial_weight") == 0 else 2
    assert recorder.num_recordings == 3 * updates
    assert recorder.num_replays == updates * (21 - 3 * WARM_UP_CALLS)
    assert state.domains_with_holes == {"a", "b"}


@pytest.mark.parametrize("preset", ["paper", "modern", "conservative"])
def test_nothing_of_a_masked_step_comes_from_the_cpu(preset):
    config = make_config({**TINY_MODEL, "crop_size": 16, "steps": 20, "structure_weight": 1.0}, preset=preset)
    state = TrainState.create(config, torch.device("meta"))
    real, mask = torch.empty(1, 3, 16, 16, device="meta"), torch.empty(1, 1, 16, 16, device="meta")
    devices = Devices()
    updates = devices.watch(generator_gradients), devices.watch(discriminator_gradients)
    run_step(state, real, real, *updates, mask_a=mask, mask_b=mask)
    assert devices.crossings == []


@pytest.mark.skipif(not HAS_CUDA, reason="needs CUDA")
@pytest.mark.parametrize("settings", [{}, {"precision": "bf16"}, MODERN])
def test_a_masked_step_recorded_on_cuda_does_what_an_ordinary_one_does(monkeypatch, settings):
    """See `test_a_step_recorded_on_cuda_does_what_an_ordinary_one_does` for the tolerances."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)

    def run(make_step):
        state, real_a, real_b = state_and_images(device="cuda", **settings)
        step, losses = make_step(), []
        for number in range(12):
            masks = {"mask_a": mask_of(real_a, 9)} if number > 5 else {}
            losses.append(values(step(state, real_a.roll(number, -1), real_b.roll(number, -1), **masks)))
        return losses

    expected = run(lambda: train_step)
    found = run(lambda: graph_step(CudaRecorder(torch.device("cuda"))))
    tolerance = 2**-8 if settings.get("precision") == "bf16" else 1e-3
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=tolerance)


# ---- batches of the caller


class WithHoles:
    """Batches of which some of A have holes, filled with a number."""

    def __init__(self, fill=0.0):
        self.fill = fill

    def batch(self, step):
        a, b = random(1, 3, 16, 16, seed=2 * step), random(1, 3, 16, 16, seed=2 * step + 1)
        if step % 3 != 2:
            return Batch(a, b)
        mask = mask_of(a, 10)
        return Batch(a * mask + self.fill * (1 - mask), b, mask_a=mask)


SETTINGS = {**TINY, "steps": 8, "quiet": True, "tensorboard": False, "log_steps": 1, "pool_size": 3}


@pytest.mark.usefixtures("without_pages")
def test_a_resumed_run_with_holes_ends_the_same(tmp_path):
    def checkpoint(run):
        return (list_checkpoints(run)[0] / "training.safetensors").read_bytes()

    whole = train(batches=WithHoles(), out=tmp_path / "whole", **SETTINGS)

    def interrupt(event):
        if isinstance(event, StepDone) and event.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(batches=WithHoles(), out=tmp_path / "run", callbacks=[interrupt], **SETTINGS)
    run = train(batches=WithHoles(), out=tmp_path / "run", **SETTINGS)
    assert checkpoint(whole) == checkpoint(run)


class Wrong:
    def __init__(self, mask):
        self.mask = mask

    def batch(self, _):
        return Batch(random(1, 3, 16, 16), random(1, 3, 16, 16), mask_b=self.mask)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(1, 3, 16, 16), r"batch\(0\).mask_b is torch.float32 \(1, 3, 16, 16\); expected .*\(1, 1, 16, 16\)"),
        (torch.ones(1, 1, 16, 16, dtype=torch.bool), r"batch\(0\).mask_b is torch.bool"),
        (np.ones((1, 1, 16, 16), np.float32), r"batch\(0\).mask_b is ndarray"),
        (torch.full((1, 1, 16, 16), 255.0), r"batch\(0\).mask_b has values other than 0 and 1"),
    ],
)
def test_a_mask_that_cannot_be_used_is_reported_in_one_sentence(tmp_path, mask, message):
    with pytest.raises(InputError, match=message):
        train(batches=Wrong(mask), out=tmp_path / "run", **SETTINGS)

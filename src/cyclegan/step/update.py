"""One training step: update both generators, then both discriminators (Zhu et al. 2017, equation 3 and section 4)."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cyclegan.networks import train_mode
from cyclegan.networks.layers import power_iteration
from cyclegan.networks.patch_projection import sample
from cyclegan.step.execution import DirectionNetworks
from cyclegan.step.losses import discriminator_loss, patch_weights
from cyclegan.step.master_weights import trained
from cyclegan.step.randomness import Stream, draw_mixes, draw_noise, draw_places, numpy_generator, torch_seed
from cyclegan.step.state import TrainState
from cyclegan.step.terms import (
    Discriminated,
    Input,
    PatchFeatures,
    Translated,
    active_penalties,
    loss_names,
    needed_inputs,
)
from cyclegan.system.host_state import random_numbers_kept

# An update of a state: tensors in and out by name, nothing random inside, so that it can be recorded as a CUDA graph.
Update: TypeAlias = Callable[..., dict[str, Tensor]]


def train_step(
    state: TrainState, real_a: Tensor, real_b: Tensor, *, mask_a: Tensor | None = None, mask_b: Tensor | None = None
) -> dict[str, Tensor]:
    """Train all four networks on one batch.

    real_a, real_b: (N, C, H, W) in [-1, 1] on the state's device, H and W multiples of the model's.
    mask_a, mask_b: (N, 1, H, W), float32, 1 for a value and 0 in a hole, which the images fill with some number. Holes
    count in no loss. Default: no holes.
    Returns the weighted losses as detached scalars, under the names of `cyclegan.step.terms.loss_names`; 0 for a term
    of the paper that does not apply.
    """
    return run_step(state, real_a, real_b, update_generators, update_discriminators, mask_a=mask_a, mask_b=mask_b)


def run_step(
    state: TrainState,
    real_a: Tensor,
    real_b: Tensor,
    generators: Update,
    discriminators: Update,
    *,
    mask_a: Tensor | None = None,
    mask_b: Tensor | None = None,
) -> dict[str, Tensor]:
    """`train_step` with given updates: `update_generators` and `update_discriminators`, or graphs of them."""
    masks = {**_named_mask(state, "a", real_a, mask_a), **_named_mask(state, "b", real_b, mask_b)}
    with _own_dropout(state):
        return _run_step(state, real_a, real_b, generators, discriminators, masks)


def _named_mask(state: TrainState, domain: str, real: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
    """The mask of a domain, by its name in updates. After the first hole of a run there is one at every step.

    The operations of a step then change at most twice in a run, so that a step can be recorded.
    """
    if mask is not None:
        state.domains_with_holes.add(domain)
    if domain not in state.domains_with_holes:
        return {}
    return {f"mask_{domain}": torch.ones_like(real[:, :1]) if mask is None else mask}


def _own_dropout(state: TrainState) -> AbstractContextManager[None]:
    """In a step the masks of dropout follow from its number; outside, torch draws what it would have drawn."""
    if not state.config.model.dropout:
        return nullcontext()
    return random_numbers_kept(torch_seed(state.config, Stream.TORCH, state.step), state.device)


def _run_step(
    state: TrainState,
    real_a: Tensor,
    real_b: Tensor,
    generators: Update,
    discriminators: Update,
    masks: dict[str, Tensor],
) -> dict[str, Tensor]:
    config = state.config
    _prepare_networks(state)

    draws = draw_noise(config, state.step, real_a, real_b)
    if state.heads is not None:
        draws |= draw_places(config, state.step, state.heads.num_layers, state.device)
    results = generators(state, real_a=real_a, real_b=real_b, **masks, **draws)
    fake_a, fake_b = results.pop("fake_a"), results.pop("fake_b")
    state.update_average()

    if "score" in needed_inputs(config):
        rng = numpy_generator(config, Stream.POOL, state.step)
        # The holes of a fake are those of the image that it was made from.
        old_b, mask_fake_b = state.pool_b.query_with_masks(fake_b, masks.get("mask_a"), rng)
        old_a, mask_fake_a = state.pool_a.query_with_masks(fake_a, masks.get("mask_b"), rng)
        of_fakes = {"mask_fake_a": mask_fake_a, "mask_fake_b": mask_fake_b}
        masks |= {name: mask for name, mask in of_fakes.items() if mask is not None}
        draws = {}
        if any(penalty.needs_mix for penalty in active_penalties(config)):
            draws = draw_mixes(rng, len(real_a), state.device)
        results |= discriminators(state, real_a=real_a, fake_a=old_a, real_b=real_b, fake_b=old_b, **masks, **draws)

    if state.scaler.is_enabled():
        state.scaler.update()
    state.step += 1
    zero = real_a.new_zeros(())
    return {name: results.get(name, zero) for name in loss_names(config)}


def _prepare_networks(state: TrainState) -> None:
    config = state.config
    for network in (state.execution.generator.network, state.execution.discriminator.network):
        if config.model.uses_batch_norm or not network.training:  # walking through all layers takes a while
            train_mode(network)
    if config.model.discriminator_norm == "spectral":
        power_iteration(state.discriminator)


# ---- generators


def update_generators(
    state: TrainState,
    *,
    real_a: Tensor,
    real_b: Tensor,
    mask_a: Tensor | None = None,
    mask_b: Tensor | None = None,
    noise_a: Tensor | None = None,
    noise_b: Tensor | None = None,
    places_a: Tensor | None = None,
    places_b: Tensor | None = None,
) -> dict[str, Tensor]:
    """One step of both generators, with the discriminators fixed.

    mask_a, mask_b: of the real images. noise_a, noise_b: added to the fakes of A and of B on their way back.
    places_a, places_b: where features of these fakes are compared with those of their inputs, (layers, patches) in
    [0, 1].
    Returns `fake_a` and `fake_b`, (N, C, H, W), and the weighted losses of the terms that apply, detached.
    """
    execution = state.execution
    execution.generator.sync()
    execution.discriminator.sync()
    execution.generator.zero_grad()
    if execution.heads is not None:
        execution.heads.zero_grad()

    # The directions share only weights. Each adds one gradient to a weight, and a sum of two numbers does not depend on
    # their order, so the directions may run in two threads.
    a2b, b2a = execution.directions["a2b"], execution.directions["b2a"]
    to_b, to_a = execution.two_threads(
        lambda: _update_direction(
            state, a2b, _translate(state, a2b, real_a, real_b, masks=(mask_a, mask_b), noise=noise_b, places=places_b)
        ),
        lambda: _update_direction(
            state, b2a, _translate(state, b2a, real_b, real_a, masks=(mask_b, mask_a), noise=noise_a, places=places_a)
        ),
    )

    execution.generator.copy_grads()
    state.scaler.step(state.generator_optimizer)
    if state.head_optimizer is not None:
        state.scaler.step(state.head_optimizer)
    return {**to_b, **to_a}


def _update_direction(state: TrainState, networks: DirectionNetworks, translated: Translated) -> dict[str, Tensor]:
    """Add the gradients of all terms of one direction to both generators. Returns the fake and the losses, detached."""
    losses = {}
    for term in networks.terms:
        weight: float | Tensor = term.weight_in(state.config, networks.direction)
        if term.uses_cycle_factor:
            weight = weight * state.execution.cycle_factor
        losses[term.name_in(networks.direction)] = weight * term.loss(translated.only(term.needs))
    total = sum(losses.values(), start=translated.real.new_zeros(()))
    if total.requires_grad:
        torch.autograd.backward(state.scaler.scale(total), inputs=networks.trained)
    results = {f"fake_{networks.target}": translated.fake, **losses}
    return {name: result.detach() for name, result in results.items()}


def _translate(
    state: TrainState,
    networks: DirectionNetworks,
    real: Tensor,
    real_target: Tensor,
    *,
    masks: tuple[Tensor | None, Tensor | None],
    noise: Tensor | None,
    places: Tensor | None,
) -> Translated:
    """Compute the translation, and what else the terms of this direction need. masks: of both images."""
    mask, mask_target = masks
    execution, needs = state.execution, networks.needs
    optional: dict[Input, Any] = {}

    inputs = [real, real_target] if "identity" in needs else [real]
    if "features" in needs:
        outputs, real_features = execution.apply_with_features(networks.generator, inputs)
    else:
        outputs, real_features = execution.apply_each(networks.generator, inputs), []
    fake = outputs[0]
    if "identity" in needs:
        optional["identity"] = outputs[1]

    # The way back passes the features by which the contrastive loss compares the fake with its input.
    source = fake if noise is None else fake + noise
    if "features" in needs:
        decode = "cycled" in needs
        outputs, fake_features = execution.apply_with_features(networks.inverse, [source], decode=decode)
        optional["features"] = _project(networks, real_features, fake_features, places, mask)
    elif "cycled" in needs:
        outputs = [execution.apply(networks.inverse, source)]
    if "cycled" in needs:
        optional["cycled"] = outputs[0]

    if "score" in needs:
        optional["score"] = execution.apply(networks.discriminator, fake)
    return Translated(
        config=state.config,
        real=real,
        real_target=real_target,
        fake=fake,
        optional=optional,
        mask=mask,
        mask_target=mask_target,
    )


def _project(
    networks: DirectionNetworks,
    real_features: list[Tensor],
    fake_features: list[Tensor],
    places: Tensor | None,
    mask: Tensor | None,
) -> list[PatchFeatures]:
    assert networks.real_heads is not None
    assert networks.fake_heads is not None
    with torch.no_grad():
        real = networks.real_heads([x.detach() for x in real_features], places)
    fake = networks.fake_heads(fake_features, places)
    weights: list[Tensor | None] = [None] * len(real)
    if mask is not None:
        assert places is not None
        shares = [F.interpolate(mask, x.shape[-2:], mode="area") for x in real_features]
        weights = [sample(share, at)[..., 0] for share, at in zip(shares, places, strict=True)]
    return [PatchFeatures(fake=f, real=r, weights=w) for f, r, w in zip(fake, real, weights, strict=True)]


# ---- discriminators


def update_discriminators(
    state: TrainState,
    *,
    real_a: Tensor,
    fake_a: Tensor,
    real_b: Tensor,
    fake_b: Tensor,
    mask_a: Tensor | None = None,
    mask_b: Tensor | None = None,
    mask_fake_a: Tensor | None = None,
    mask_fake_b: Tensor | None = None,
    mix_a: Tensor | None = None,
    mix_b: Tensor | None = None,
) -> dict[str, Tensor]:
    """One step of both discriminators, on fakes without gradients.

    mask_a, mask_b: of the real images. mask_fake_a, mask_fake_b: of the images that the fakes were made from.
    mix_a, mix_b: (N, 1, 1, 1) in [0, 1], the share of the real image where a gradient penalty is taken.
    Returns both losses, detached.
    """
    discriminator = state.execution.discriminator
    networks = discriminator.network
    discriminator.zero_grad()
    loss_a, loss_b = state.execution.two_threads(
        lambda: _update_discriminator(state, networks.a, real_a, fake_a, mask_a, mask_fake_a, mix_a),
        lambda: _update_discriminator(state, networks.b, real_b, fake_b, mask_b, mask_fake_b, mix_b),
    )
    discriminator.copy_grads()
    state.scaler.step(state.discriminator_optimizer)
    return {"discriminator_a": loss_a, "discriminator_b": loss_b}


def _update_discriminator(
    state: TrainState,
    discriminator: nn.Module,
    real: Tensor,
    fake: Tensor,
    mask_real: Tensor | None,
    mask_fake: Tensor | None,
    mix: Tensor | None,
) -> Tensor:
    """Add the gradients of one discriminator's loss. Returns the loss, detached."""
    real_score, fake_score = state.execution.apply_each(discriminator, [real, fake])
    weights = patch_weights(mask_real, real_score), patch_weights(mask_fake, fake_score)
    loss = discriminator_loss(state.config.adversarial, real_score, fake_score, *weights)
    # Penalties are computed in float32: second derivatives need the precision.
    given = Discriminated(
        discriminator=discriminator, real=real, fake=fake, mix=mix, mask_real=mask_real, mask_fake=mask_fake
    )
    for penalty in active_penalties(state.config):
        if state.step % penalty.every == 0:
            loss = loss + 0.5 * penalty.weight(state.config) * penalty.every * penalty.loss(given)
    torch.autograd.backward(state.scaler.scale(loss), inputs=trained(discriminator))
    return loss.detach()

"""One training step: update both generators, then both discriminators (Zhu et al. 2017, equation 3 and section 4)."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cyclegan.config import Direction
from cyclegan.networks import train_mode
from cyclegan.networks.layers import power_iteration
from cyclegan.networks.patch_projection import sample
from cyclegan.step.execution import DirectionNetworks
from cyclegan.step.losses import discriminator_loss, patch_weights
from cyclegan.step.master_weights import MasterWeights, add_grads, trained
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

# Computes gradients of a state: tensors in and out by name, nothing random inside and no message to another process,
# so that it can be recorded as a CUDA graph.
Gradients: TypeAlias = Callable[..., dict[str, Tensor]]


def train_step(
    state: TrainState, real_a: Tensor, real_b: Tensor, *, mask_a: Tensor | None = None, mask_b: Tensor | None = None
) -> dict[str, Tensor]:
    """Train all four networks on one batch.

    real_a, real_b: (N, C, H, W) in [-1, 1] on the state's device, H and W multiples of the model's. Where processes
    share a step, those of this process; the losses that are returned are of the whole batch.
    mask_a, mask_b: (N, 1, H, W), float32, 1 for a value and 0 in a hole, which the images fill with some number. Holes
    count in no loss. Default: no holes.
    Returns the weighted losses as detached scalars, under the names of `cyclegan.step.terms.loss_names`; 0 for a term
    of the paper that does not apply.
    """
    return run_step(state, real_a, real_b, generator_gradients, discriminator_gradients, mask_a=mask_a, mask_b=mask_b)


def run_step(
    state: TrainState,
    real_a: Tensor,
    real_b: Tensor,
    generators: Gradients,
    discriminators: Gradients,
    *,
    mask_a: Tensor | None = None,
    mask_b: Tensor | None = None,
) -> dict[str, Tensor]:
    """`train_step` with `generator_gradients` and `discriminator_gradients`, or graphs of them."""
    if real_a.is_cuda:  # the gradients of losses then have the layout of the networks
        real_a, real_b = (x.contiguous(memory_format=torch.channels_last) for x in (real_a, real_b))
    masks = {**_named_mask(state, "a", real_a, mask_a), **_named_mask(state, "b", real_b, mask_b)}
    with _own_dropout(state), state.execution.share.active():
        return _run_step(state, real_a, real_b, generators, discriminators, masks)


def _named_mask(state: TrainState, domain: str, real: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
    """The mask of a domain, by its name in `Gradients`. After the first hole of a run there is one at every step.

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
    rank = state.execution.share.processes.rank  # processes draw different masks
    counters = (state.step, rank) if rank else (state.step,)
    return random_numbers_kept(torch_seed(state.config, Stream.TORCH, *counters), state.device)


def _run_step(
    state: TrainState,
    real_a: Tensor,
    real_b: Tensor,
    generators: Gradients,
    discriminators: Gradients,
    masks: dict[str, Tensor],
) -> dict[str, Tensor]:
    config, share = state.config, state.execution.share
    _prepare_networks(state)

    # Random numbers are drawn for the whole batch.
    batch_size = len(real_a) * share.parts
    noise = draw_noise(config, state.step, batch_size, real_a, real_b)
    draws = {name: share.own(x) for name, x in noise.items()}
    if state.heads is not None:
        draws |= draw_places(config, state.step, state.heads.num_layers, state.device)
    results = generators(state, real_a=real_a, real_b=real_b, **masks, **draws)
    fakes = {name: results.pop(name) for name in list(results) if name in ("fake_a", "fake_b")}

    of_fakes: dict[str, Tensor | None] = {}
    needs_scores = "score" in needed_inputs(config)
    if needs_scores:
        rng = numpy_generator(config, Stream.POOL, state.step)
        whole = _whole_batch(state, real_a, real_b, fakes, masks)
        # The holes of a fake are those of the image that it was made from.
        old_b, mask_fake_b = state.pool_b.query_with_masks(whole["fake_b"], whole.get("mask_a"), rng)
        old_a, mask_fake_a = state.pool_a.query_with_masks(whole["fake_a"], whole.get("mask_b"), rng)
        of_fakes = {"fake_a": old_a, "fake_b": old_b, "mask_fake_a": mask_fake_a, "mask_fake_b": mask_fake_b}
        if any(penalty.needs_mix for penalty in active_penalties(config)):
            of_fakes |= draw_mixes(rng, batch_size, state.device)

    # The discriminators learn from fakes that exist, so the gradients of the generators, four times as many numbers as
    # theirs, travel meanwhile.
    generator_sums = [state.execution.start_adding_up(weights) for weights in _generator_side(state)]
    if needs_scores:
        own = {name: share.own(x) for name, x in of_fakes.items() if x is not None}
        results |= discriminators(state, real_a=real_a, real_b=real_b, **masks, **own)
    for wait in generator_sums:
        wait()
    state.scaler.step(state.generator_optimizer)
    if state.head_optimizer is not None:
        state.scaler.step(state.head_optimizer)
    state.update_average()
    if needs_scores:
        state.execution.start_adding_up(state.execution.discriminator)()
        state.scaler.step(state.discriminator_optimizer)

    if state.scaler.is_enabled():
        state.scaler.update()
    state.step += 1
    return share.add_up(results, loss_names(config), like=real_a)


def _generator_side(state: TrainState) -> list[MasterWeights[Any]]:
    """The weights that the losses of the generators train."""
    generator, heads = state.execution.generator, state.execution.heads
    return [generator] if heads is None else [generator, heads]


def _whole_batch(
    state: TrainState, real_a: Tensor, real_b: Tensor, fakes: dict[str, Tensor], masks: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The fakes of all processes, and the masks of the images that they were made from, for the image pools."""
    share = state.execution.share
    if share.is_whole:
        return {**fakes, **masks}
    count, model = len(real_a) * share.parts, state.config.model
    size_a, size_b = real_a.shape[2:], real_b.shape[2:]
    shapes = {"fake_b": (count, model.channels_b, *size_a), "fake_a": (count, model.channels_a, *size_b)}
    shapes |= {name: (count, 1, *(size_a if name == "mask_a" else size_b)) for name in sorted(masks)}
    sources = {f"mask_{direction[0]}" for direction in share.directions}
    own = {**fakes, **{name: mask for name, mask in masks.items() if name in sources}}
    return share.whole(own, shapes, like=real_a)


def _prepare_networks(state: TrainState) -> None:
    config = state.config
    for network in (state.execution.generator.network, state.execution.discriminator.network):
        if config.model.uses_batch_norm or not network.training:  # walking through all layers takes a while
            train_mode(network)
    if config.model.discriminator_norm == "spectral":
        power_iteration(state.discriminator)


# ---- generators


def generator_gradients(
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
    """Compute the gradients of both generators, and of the projections of features, with the discriminators fixed.

    mask_a, mask_b: of the real images. noise_a, noise_b: added to the fakes of A and of B on their way back.
    places_a, places_b: where features of these fakes are compared with those of their inputs, (layers, patches) in
    [0, 1].
    Returns `fake_a` and `fake_b`, (N, C, H, W), and the weighted losses of the terms that apply, detached; those of the
    directions that this process computes.
    """
    execution = state.execution
    execution.generator.sync()
    execution.discriminator.sync()
    for weights in _generator_side(state):
        weights.zero_grad()

    # The directions share only weights. Each adds one gradient to a weight, and a sum of two numbers does not depend on
    # their order, so the directions may run in two threads, or in two processes.
    a2b, b2a = execution.directions["a2b"], execution.directions["b2a"]
    passes: dict[Direction, Callable[[], dict[str, Tensor]]] = {
        "a2b": lambda: _add_direction_grads(
            state, a2b, _translate(state, a2b, real_a, real_b, masks=(mask_a, mask_b), noise=noise_b, places=places_b)
        ),
        "b2a": lambda: _add_direction_grads(
            state, b2a, _translate(state, b2a, real_b, real_a, masks=(mask_b, mask_a), noise=noise_a, places=places_a)
        ),
    }
    with execution.fewer_multiplications():
        results = execution.two_threads(*(passes[direction] for direction in execution.share.directions))

    for weights in _generator_side(state):
        weights.copy_grads()
    return {name: result for found in results for name, result in found.items()}


def _add_direction_grads(state: TrainState, networks: DirectionNetworks, translated: Translated) -> dict[str, Tensor]:
    """Add the gradients of all terms of one direction to both generators. Returns the fake and the losses, detached."""
    losses = {}
    for term in networks.terms:
        weight: float | Tensor = term.weight_in(state.config, networks.direction)
        if term.uses_cycle_factor:
            weight = weight * state.execution.cycle_factor
        losses[term.name_in(networks.direction)] = weight * term.loss(translated.only(term.needs))
    total = sum(losses.values(), start=translated.real.new_zeros(()))
    if total.requires_grad:
        add_grads(state.scaler.scale(state.execution.weighted(total)), networks.trained)
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


def discriminator_gradients(
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
    """Compute the gradients of both discriminators, on fakes without gradients.

    mask_a, mask_b: of the real images. mask_fake_a, mask_fake_b: of the images that the fakes were made from.
    mix_a, mix_b: (N, 1, 1, 1) in [0, 1], the share of the real image where a gradient penalty is taken.
    Returns both losses, detached, or that of the direction that this process computes.
    """
    execution, discriminator = state.execution, state.execution.discriminator
    networks = discriminator.network
    discriminator.zero_grad()
    passes: dict[Direction, Callable[[], Tensor]] = {
        "b2a": lambda: _add_discriminator_grads(state, networks.a, real_a, fake_a, mask_a, mask_fake_a, mix_a),
        "a2b": lambda: _add_discriminator_grads(state, networks.b, real_b, fake_b, mask_b, mask_fake_b, mix_b),
    }
    own = [direction for direction in passes if direction in execution.share.directions]
    losses = execution.two_threads(*(passes[direction] for direction in own))
    discriminator.copy_grads()
    return {f"discriminator_{direction[-1]}": loss for direction, loss in zip(own, losses, strict=True)}


def _add_discriminator_grads(
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
    add_grads(state.scaler.scale(state.execution.weighted(loss)), trained(discriminator))
    return loss.detach()

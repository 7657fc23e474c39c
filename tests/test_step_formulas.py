"""Training steps of the presets against independent code, written from the formulas in plain torch and float64.

Nothing of the package computes an expected value: it gives the settings and the first weights alone.
"""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cyclegan.config import make_config
from cyclegan.step import TrainState, train_step

SIDE, WIDTH, PATCHES, STEPS = 32, 8, 128, 3
SIZES = {
    "precision": "fp32",
    "width": WIDTH,
    "blocks": 2,
    "discriminator_width": 8,
    "crop_size": SIDE,
    "batch_size": 2,
    "steps": 10,
}
CASES = {
    "modern": {"preset": "modern"},
    "conservative": {"preset": "conservative"},
    "modern, R1, a small pool": {"preset": "modern", "r1_weight": 2.0, "pool_size": 3},
    "conservative, other channels": {"preset": "conservative", "channels_a": 1, "pool_size": 2, "seed": 7},
    "hinge": {
        "preset": "modern",
        "adversarial": "hinge",
        "structure_weight": 2.0,
        "pool_size": 0,
        "average_decay": 0.5,
    },
    "wgan-gp": {"preset": "modern", "adversarial": "wgan-gp", "contrastive_weight": 0.0},
}


# ---- networks, from weights by name


def layer_norm(x):
    """Over the channels of each pixel."""
    mean = x.mean(1, keepdim=True)
    return (x - mean) / ((x - mean).square().mean(1, keepdim=True) + 1e-5).sqrt()


def blur(x):
    """[1 2 1] / 4 both ways, without padding."""
    row = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype)
    kernel = (row[:, None] * row)[None, None].expand(x.shape[1], 1, 3, 3)
    return F.conv2d(x, kernel, groups=x.shape[1])


def mirrored(x, pixels):
    return F.pad(x, [pixels] * 4, mode="reflect")


def generator(w, x):
    """The image and the four activations that the contrastive loss compares."""

    def conv(name, x, **options):
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], **options)

    def up(name, x):
        h = F.pad(F.conv_transpose2d(x, w[f"{name}.weight"], stride=2), [0, 1, 0, 1])
        return blur(h) + w[f"{name}.bias"][:, None, None]

    h = layer_norm(conv("stem", mirrored(x, 3))).relu()
    features = []
    for name in ("down.0", "down.1"):
        h = layer_norm(conv(name, blur(F.pad(h, [2] * 4)), stride=2)).relu()
        features.append(h)
    for name in ("blocks.0", "blocks.1"):
        change = layer_norm(conv(f"{name}.conv1", mirrored(h, 1))).relu()
        h = h + layer_norm(conv(f"{name}.conv2", mirrored(change, 1)))
        features.append(h)
    for name in ("up.0", "up.1"):
        h = layer_norm(up(name, h)).relu()
    h = conv("head", mirrored(h, 3))
    change, gate = h[:, :-1], h[:, -1:]
    kept = x.clamp(-1, 1)
    if kept.shape[1] != change.shape[1]:
        kept = kept.mean(1, keepdim=True)
    return torch.tanh(change + torch.atanh(0.95 * kept) / (1 + torch.exp(-gate - 2))), features


def unit(vector):
    return vector / vector.norm()


def discriminator(w, x):
    """Spectral norm (Miyato et al. 2018) on all convolutions but the last; `u` estimates a singular vector."""

    def conv(name, x, stride):
        matrix = w[f"{name}.weight"].flatten(1)
        v = unit(matrix.detach().T @ w[f"{name}.u"])
        return F.conv2d(x, w[f"{name}.weight"] / (matrix @ v).norm(), w[f"{name}.bias"], stride=stride, padding=1)

    h = F.leaky_relu(conv("stem", x, 2), 0.2)
    for name, stride in (("convs.0", 2), ("convs.1", 2), ("convs.2", 1)):
        h = F.leaky_relu(conv(name, h, stride), 0.2)
    return F.conv2d(h, w["head.weight"], w["head.bias"], padding=1)


def power_iteration(w):
    for name in [key for key in w if key.endswith(".u")]:
        matrix = w[name.replace(".u", ".weight")].detach().flatten(1)
        w[name] = unit(matrix @ unit(matrix.T @ w[name]))


def project(w, features, places):
    """Two layers, on pixels of each activation: one of each of 128 runs of pixels, or all if there are at most 128."""
    found = []
    for index, (activation, at) in enumerate(zip(features, places, strict=True)):
        pixels = activation.flatten(2).transpose(1, 2)
        count = pixels.shape[1]
        if count > PATCHES:
            starts = [i * count // PATCHES for i in range(PATCHES + 1)]
            runs = zip(starts[:-1], starts[1:], at, strict=True)
            pixels = pixels[:, [start + min(int(place * (end - start)), end - start - 1) for start, end, place in runs]]
        hidden = (pixels @ w[f"layers.{index}.0.weight"].T + w[f"layers.{index}.0.bias"]).relu()
        output = hidden @ w[f"layers.{index}.2.weight"].T + w[f"layers.{index}.2.bias"]
        found.append(output / output.norm(dim=-1, keepdim=True))
    return found


# ---- losses


def contrastive(fake, real):
    """Park et al. 2020, equation 3, with temperature 0.07, mean over layers."""
    losses = []
    for query, key in zip(fake, real, strict=True):
        similarity = torch.einsum("npd,nqd->npq", query, key) / 0.07
        right = torch.diagonal(similarity, dim1=1, dim2=2)
        losses.append((torch.logsumexp(similarity, 2) - right).mean())
    return sum(losses) / len(losses)


def self_similarity(x):
    """Of the 3x3 patch around each pixel and those around its neighbours (Heinrich et al. 2012)."""
    height, width = x.shape[2:]

    def patches(down, right):
        """(N, C, 9, H - 4, W - 4): the values of the patch around each inner pixel, moved."""
        moved = [
            x[:, :, 2 + down + i : height - 2 + down + i, 2 + right + j : width - 2 + right + j]
            for i in (-1, 0, 1)
            for j in (-1, 0, 1)
        ]
        return torch.stack(moved, 2)

    here = patches(0, 0)
    distances = [(here - patches(*place)).square().mean((1, 2)) for place in ((0, 1), (0, -1), (1, 0), (-1, 0))]
    mean = sum(distances) / 4
    return torch.stack([torch.exp(-distance / (mean + 1e-3)) for distance in distances], 1)


def adversarial(kind, score):
    return (score - 1).square().mean() if kind == "lsgan" else -score.mean()


def discrimination(kind, real, fake):
    if kind == "lsgan":
        return ((real - 1).square().mean() + fake.square().mean()) / 2
    if kind == "hinge":
        return ((1 - real).relu().mean() + (1 + fake).relu().mean()) / 2
    return (fake.mean() - real.mean()) / 2


class Adam:
    """Kingma and Ba 2015, algorithm 1."""

    def __init__(self, config):
        self.rate, self.betas, self.count = config.learning_rate, (config.beta1, config.beta2), 0
        self.moments = {}

    def update(self, weights, gradients):
        self.count += 1
        first, second = self.betas
        for name, gradient in gradients.items():
            m, v = self.moments.get(name, (torch.zeros_like(gradient), torch.zeros_like(gradient)))
            m, v = first * m + (1 - first) * gradient, second * v + (1 - second) * gradient.square()
            self.moments[name] = m, v
            step = (m / (1 - first**self.count)) / ((v / (1 - second**self.count)).sqrt() + 1e-8)
            weights[name] = weights[name].detach() - self.rate * step


class Pool:
    """Shrivastava et al. 2017: with probability 1/2 an earlier fake takes the place of a new one."""

    def __init__(self, size):
        self.size, self.images = size, []

    def query(self, fakes, rng):
        if self.size == 0:
            return fakes
        chosen = []
        for fake in fakes:
            if len(self.images) < self.size:
                self.images.append(fake)
                chosen.append(fake)
            elif rng.random() < 0.5:
                index = int(rng.integers(self.size))
                chosen.append(self.images[index])
                self.images[index] = fake
            else:
                chosen.append(fake)
        return torch.stack(chosen)


class Reference:
    """Both generators, both discriminators and the projections, trained step by step."""

    def __init__(self, config, state):
        def read(network):
            return {name: value.detach().double().clone() for name, value in network.state_dict().items()}

        self.config, self.step = config, 0
        self.generators = {"a2b": read(state.generator.a2b), "b2a": read(state.generator.b2a)}
        self.averages = {name: dict(weights) for name, weights in self.generators.items()}
        self.discriminators = {"a": read(state.discriminator.a), "b": read(state.discriminator.b)}
        self.heads = {} if state.heads is None else {"a": read(state.heads.a), "b": read(state.heads.b)}
        self.pools = {"a": Pool(config.pool_size), "b": Pool(config.pool_size)}
        self.optimizers = {name: Adam(config) for name in ("generators", "discriminators", "heads")}
        self.gradients = {}

    def train(self, real):
        """One step on a batch of each domain. Returns the weighted losses."""
        config = self.config
        for weights in self.discriminators.values():
            power_iteration(weights)
        places = np.random.default_rng([config.seed, 5, self.step]).random((2, 4, PATCHES)).astype(np.float32)

        # The generators, of which both get gradients of both directions.
        trained = [w for of in (self.generators, self.heads) for w in of.values()]
        for weights in trained:
            for name in weights:
                weights[name] = weights[name].detach().requires_grad_()
        losses, fakes = {}, {}
        for (x, y), at in zip(("ab", "ba"), places, strict=True):
            fakes[y], real_features = generator(self.generators[f"{x}2{y}"], real[x])
            cycled, fake_features = generator(self.generators[f"{y}2{x}"], fakes[y])
            cycle_weight = config.cycle_weight_a if x == "a" else config.cycle_weight_b
            losses[f"adversarial_{x}2{y}"] = adversarial(
                config.adversarial, discriminator(self.discriminators[y], fakes[y])
            )
            losses[f"cycle_{x}"] = cycle_weight * (cycled - real[x]).abs().mean()
            if config.contrastive_weight:
                keys = [key.detach() for key in project(self.heads[x], real_features, at)]
                queries = project(self.heads[y], fake_features, at)
                losses[f"contrastive_{x}2{y}"] = config.contrastive_weight * contrastive(queries, keys)
            if config.structure_weight:
                change = (self_similarity(fakes[y]) - self_similarity(real[x])).abs().mean()
                losses[f"structure_{x}2{y}"] = config.structure_weight * change
        self._update("generators", self.generators, sum(losses.values()), retain=bool(self.heads))
        if self.heads:
            self._update("heads", self.heads, sum(losses.values()))
        decay = min(config.average_decay, (1 + self.step) / (10 + self.step))
        for name, weights in self.averages.items():
            for key, value in weights.items():
                weights[key] = decay * value + (1 - decay) * self.generators[name][key].detach()

        # The discriminators, on fakes of before the update.
        rng = np.random.default_rng([config.seed, 2, self.step])
        old = {domain: self.pools[domain].query(fakes[domain].detach(), rng) for domain in "ba"}
        mixes = torch.from_numpy(rng.random((2, 2, 1, 1, 1)).astype(np.float32)).double()
        for mix, domain in zip(mixes, "ab", strict=True):
            weights = self.discriminators[domain]
            for name in weights:
                weights[name] = weights[name].detach().requires_grad_(not name.endswith(".u"))
            scores = [discriminator(weights, images) for images in (real[domain], old[domain])]
            loss = discrimination(config.adversarial, *scores)
            if config.r1_weight and self.step % 16 == 0:
                loss = loss + 0.5 * 16 * config.r1_weight * self._slope(weights, real[domain], "r1")
            if config.adversarial == "wgan-gp":
                between = mix * real[domain] + (1 - mix) * old[domain]
                loss = loss + 0.5 * config.gradient_penalty_weight * self._slope(weights, between, "gradient")
            losses[f"discriminator_{domain}"] = loss
        total = losses["discriminator_a"] + losses["discriminator_b"]
        self._update("discriminators", self.discriminators, total)
        self.step += 1
        return {name: loss.item() for name, loss in losses.items()}

    def _slope(self, weights, images, kind):
        """R1 of Mescheder et al. 2018, or the penalty of Gulrajani et al. 2017."""
        images = images.detach().requires_grad_()
        scores = discriminator(weights, images)
        total = scores.mean((1, 2, 3)).sum() if kind == "r1" else scores.sum()
        (gradient,) = torch.autograd.grad(total, images, create_graph=True)
        squares = gradient.square().sum((1, 2, 3))
        return squares.mean() if kind == "r1" else (squares.sqrt() - 1).square().mean()

    def _update(self, kind, owners, loss, *, retain=False):
        names = [(owner, name) for owner, weights in owners.items() for name in weights if weights[name].requires_grad]
        found = torch.autograd.grad(loss, [owners[o][n] for o, n in names], retain_graph=retain)
        self.gradients[kind] = dict(zip(names, found, strict=True))
        weights = {key: owners[key[0]][key[1]] for key in names}
        self.optimizers[kind].update(weights, self.gradients[kind])
        for (owner, name), value in weights.items():
            owners[owner][name] = value


# ---- the comparison


def by_name(state, kind):
    """The networks of a kind, by the names that they have in Reference."""
    found = {
        "generators": {"a2b": state.generator.a2b, "b2a": state.generator.b2a},
        "discriminators": {"a": state.discriminator.a, "b": state.discriminator.b},
        "averages": {"a2b": state.average.a2b, "b2a": state.average.b2a},
        "heads": {} if state.heads is None else {"a": state.heads.a, "b": state.heads.b},
    }
    return found[kind]


@pytest.mark.parametrize("case", CASES)
def test_steps_of_the_presets_are_those_of_the_formulas(case):
    settings = dict(CASES[case])
    config = make_config({**SIZES, **{k: v for k, v in settings.items() if k != "preset"}}, preset=settings["preset"])
    state = TrainState.create(config)
    reference = Reference(config, state)
    rng = np.random.default_rng(3)
    rate = config.learning_rate
    for step in range(STEPS):
        # Smooth pictures, as the self-similarity of noise says nothing.
        small = {
            "a": rng.random((2, config.model.channels_a, 8, 8)),
            "b": rng.random((2, config.model.channels_b, 8, 8)),
        }
        real = {name: F.interpolate(torch.from_numpy(x) * 1.8 - 0.9, SIDE, mode="bicubic") for name, x in small.items()}
        real = {name: x.clamp(-1, 1).float() for name, x in real.items()}
        found = train_step(state, real["a"], real["b"])
        expected = reference.train({name: x.double() for name, x in real.items()})

        # Later steps begin where float32 rounded: Adam makes a step of a gradient that is nearly 0.
        relative = 2e-5 if step == 0 else 2e-3
        assert set(expected) <= set(found)
        for name, loss in found.items():
            assert math.isclose(loss.item(), expected.get(name, 0.0), rel_tol=relative, abs_tol=1e-6), (step, name)
        if step == 0:
            for kind in ("generators", "discriminators", *(["heads"] if reference.heads else [])):
                for (owner, name), gradient in reference.gradients[kind].items():
                    computed = by_name(state, kind)[owner].get_parameter(name).grad.double()
                    scale = max(g.abs().max() for (o, _), g in reference.gradients[kind].items() if o == owner)
                    close = (computed - gradient).abs() <= 1e-4 * gradient.abs() + 1e-5 * scale
                    assert close.all(), (kind, owner, name)

    moved = 0
    for kind in ("generators", "discriminators", "averages", "heads"):
        for owner, network in by_name(state, kind).items():
            for name, value in network.state_dict().items():
                wanted = getattr(reference, kind)[owner][name].detach()
                error = (value.double() - wanted).abs()
                assert error.max() <= 2 * STEPS * rate + 1e-5, (kind, owner, name)
                assert (error <= 0.05 * rate).double().mean() > 0.95, (kind, owner, name)
                moved += value.numel()
    assert moved > 50_000
    for domain, pool in (("a", state.pool_a), ("b", state.pool_b)):
        assert len(pool.images) == len(reference.pools[domain].images)
        for image, other in zip(pool.images, reference.pools[domain].images, strict=True):
            assert torch.allclose(image.double(), other, atol=1e-3)

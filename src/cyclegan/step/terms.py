"""The loss terms of a training step: a table with one row each.

To add a term, write its function in `cyclegan.step.losses`, give it a weight setting in `cyclegan.config.TrainConfig`,
and add a row below. The step, the log, the progress line, charts, model cards and benchmarks read the table:

    Term(
        name="frequency",
        label="focal frequency",
        short="ffl",
        weight=lambda config, _: config.frequency_weight,
        loss=lambda t: focal_frequency_loss(t.real, t.cycled),
        per="round trip",
        needs=("cycled",),
    )

A term of another package does the same with `TERMS["frequency"] = Term(...)`, before the state is created.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Self, TypeAlias, get_args

import torch
from torch import Tensor, nn

from cyclegan.config import Direction, TrainConfig
from cyclegan.step.losses import (
    cycle_loss,
    generator_loss,
    gradient_penalty,
    identity_loss,
    patch_contrastive_loss,
    patch_weights,
    r1_penalty,
    structure_loss,
)

# ---- the inputs of terms


class PatchFeatures(NamedTuple):
    """Projected features of one layer, at the same P places of a translation and its input: (N, P, D) unit vectors.

    weights: (N, P), the share of valid pixels of the input at these places; None if it has no holes.
    """

    fake: Tensor
    real: Tensor
    weights: Tensor | None = None


# Tensors that a step computes in one direction only if a term with a weight needs them.
Input: TypeAlias = Literal["identity", "cycled", "features", "score"]


@dataclass(frozen=True, kw_only=True)
class Translated:
    """The tensors of one direction, for G: X -> Y with the way back F and the discriminator D_Y.

    Images are float32, (N, C, H, W) in [-1, 1]. A term may read `config`, `real`, `real_target`, `fake` and the masks,
    and of the rest what its row lists in `needs`; anything else raises LookupError. Masks are (N, 1, H, W), 1 for a
    value and 0 in a hole, which the images fill; None if the run has seen no holes in this domain.
    """

    config: TrainConfig
    real: Tensor  # x
    real_target: Tensor  # y, not a counterpart of x
    fake: Tensor  # G(x)
    optional: dict[Input, Any]
    mask: Tensor | None = None  # of x, and of all that is made from it
    mask_target: Tensor | None = None  # of y, and of all that is made from it

    @property
    def identity(self) -> Tensor:
        """G(y): the image that is already in the target domain, translated."""
        found: Tensor = self._optional("identity")
        return found

    @property
    def cycled(self) -> Tensor:
        """F(G(x)): the translation, translated back; with `cycle_noise`, of the translation plus noise."""
        found: Tensor = self._optional("cycled")
        return found

    @property
    def score(self) -> Tensor:
        """D_Y(G(x)): (N, 1, h, w), one score a patch, before any sigmoid."""
        found: Tensor = self._optional("score")
        return found

    @property
    def score_weights(self) -> Tensor | None:
        """The share of valid pixels of each patch of `score`, (N, 1, h, w); None without a mask."""
        return patch_weights(self.mask, self.score)

    @property
    def features(self) -> list[PatchFeatures]:
        """Projected features of each layer: those of G(x) inside F, and those of x inside G, which are detached."""
        found: list[PatchFeatures] = self._optional("features")
        return found

    def only(self, needs: Iterable[Input]) -> Self:
        """What a term with these needs gets, so that a missing entry shows at once and not when other weights are 0."""
        return replace(self, optional={name: self.optional[name] for name in needs})

    def _optional(self, name: Input) -> Any:
        if name not in self.optional:
            raise LookupError(f"A loss term reads {name!r}, which its row does not list; add needs=({name!r},).")
        return self.optional[name]


@dataclass(frozen=True, kw_only=True)
class Discriminated:
    """The inputs of a penalty on a discriminator. Images are float32, (N, C, H, W) in [-1, 1].

    Masks are those of `Translated`; that of a fake is the mask of the image that it was made from.
    """

    discriminator: nn.Module
    real: Tensor
    fake: Tensor  # from the pool of earlier translations, detached
    mix: Tensor | None  # (N, 1, 1, 1), uniform in [0, 1], for a penalty with `needs_mix`
    mask_real: Tensor | None = None
    mask_fake: Tensor | None = None


# ---- rows

# The endings of the names of a term in each direction, and the same in words.
_ENDINGS: dict[str, dict[Direction, tuple[str, str]]] = {
    "direction": {"a2b": ("a2b", "A to B"), "b2a": ("b2a", "B to A")},
    "round trip": {"a2b": ("a", "A to B to A"), "b2a": ("b", "B to A to B")},
    "target domain": {"a2b": ("b", "B"), "b2a": ("a", "A")},
}


@dataclass(frozen=True, kw_only=True)
class ReportedLoss:
    """A loss that a step returns twice, with a name for each direction or for each domain."""

    name: str  # in the log, followed by an ending: `cycle` becomes `cycle_a` and `cycle_b`
    label: str  # in charts and model cards
    short: str  # in the progress line
    per: Literal["direction", "round trip", "target domain"] = "direction"

    @property
    def names(self) -> dict[str, str]:
        """Both names, in the order of the log, and their endings in words: `cycle_a` is `A to B to A`."""
        return {f"{self.name}_{ending}": words for ending, words in sorted(_ENDINGS[self.per].values())}

    def name_in(self, direction: Direction) -> str:
        """The name of this loss in one direction."""
        return f"{self.name}_{_ENDINGS[self.per][direction][0]}"


@dataclass(frozen=True, kw_only=True)
class Term(ReportedLoss):
    """A term of the objective of the generators, weight times loss (Zhu et al. 2017, equation 3).

    weight: from the configuration and the ending of the name (a2b and b2a, or a and b). Where it is 0 the term does not
    apply: it is not computed, and neither is what only this term needs.
    loss: a scalar, differentiable with respect to the generators.
    """

    weight: Callable[[TrainConfig, str], float]
    loss: Callable[[Translated], Tensor]
    needs: tuple[Input, ...] = ()
    # The loss or the unit of its weight, in parentheses after the label.
    detail: Callable[[TrainConfig], str] | None = None
    # A term whose weight, with the same ending, multiplies this weight.
    relative_to: str | None = None
    # Whether the weight is multiplied by a factor that goes from 1 to `cycle_end` over the run.
    uses_cycle_factor: bool = False
    # The terms of the paper are logged even where they do not apply, as 0.
    in_paper: bool = False

    def __post_init__(self) -> None:
        if self.per not in _ENDINGS:
            raise ValueError(f"The loss term {self.name} is per {self.per!r}; expected one of: {', '.join(_ENDINGS)}.")
        for name in self.needs:
            if name not in get_args(Input):
                known = ", ".join(get_args(Input))
                raise ValueError(f"The loss term {self.name} needs {name!r}; expected some of: {known}.")

    def weight_in(self, config: TrainConfig, direction: Direction) -> float:
        """The factor of this loss in one direction, without the cycle factor."""
        ending = _ENDINGS[self.per][direction][0]
        weight = self.weight(config, ending)
        return weight if self.relative_to is None else TERMS[self.relative_to].weight(config, ending) * weight

    def set_weights(self, config: TrainConfig) -> dict[str, float]:
        """Both weights as they are set, without what they are relative to, and the endings of their names in words."""
        return {words: self.weight(config, ending) for ending, words in sorted(_ENDINGS[self.per].values())}

    def describe_weight(self, config: TrainConfig) -> str:
        """For people: `cycle weight 10`, or `cycle weight 10 and 5`, `adversarial weight 1 (lsgan)`."""
        weights = dict.fromkeys(self.set_weights(config).values())
        detail = "" if self.detail is None else f" ({self.detail(config)})"
        return f"{self.label} weight {' and '.join(f'{weight:g}' for weight in weights)}{detail}"

    def full_label(self, config: TrainConfig, words: str = "") -> str:
        """The label, with the ending of a name in words, and the detail: `cycle A to B to A`, `adversarial (lsgan)`."""
        label = f"{self.label} {words}".rstrip()
        return label if self.detail is None else f"{label} ({self.detail(config)})"


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """A penalty that is added, halved, to the loss of both discriminators.

    every: steps between those that take it; there it counts so many times (lazy regularisation, Karras et al. 2020).
    """

    label: str
    weight: Callable[[TrainConfig], float]
    loss: Callable[[Discriminated], Tensor]
    needs_mix: bool = False
    every: int = 1


# ---- the tables


def _contrastive_loss(t: Translated) -> Tensor:
    return torch.stack([patch_contrastive_loss(f.fake, f.real, weights=f.weights) for f in t.features]).mean()


def _gradient_penalty(d: Discriminated) -> Tensor:
    assert d.mix is not None
    return gradient_penalty(d.discriminator, d.real, d.fake, d.mix)


# A step adds the terms up in this order; another order rounds differently.
_ROWS = (
    Term(
        name="adversarial",
        label="adversarial",
        short="adv",
        weight=lambda config, _: config.adversarial_weight,
        loss=lambda t: generator_loss(t.config.adversarial, t.score, t.score_weights),
        needs=("score",),
        detail=lambda config: config.adversarial,
        in_paper=True,
    ),
    Term(
        name="cycle",
        label="cycle",
        short="cyc",
        per="round trip",
        weight=lambda config, domain: config.cycle_weight_a if domain == "a" else config.cycle_weight_b,
        loss=lambda t: cycle_loss(t.real, t.cycled, t.mask),
        needs=("cycled",),
        uses_cycle_factor=True,
        in_paper=True,
    ),
    Term(
        name="identity",
        label="identity",
        short="idt",
        per="target domain",
        weight=lambda config, _: config.identity_weight if config.uses_identity else 0.0,
        loss=lambda t: identity_loss(t.real_target, t.identity, t.mask_target),
        needs=("identity",),
        detail=lambda _: "relative to the cycle weights",
        relative_to="cycle",
        in_paper=True,
    ),
    Term(
        name="contrastive",
        label="patch-contrastive",
        short="nce",
        weight=lambda config, _: config.contrastive_weight,
        loss=_contrastive_loss,
        needs=("features",),
    ),
    Term(
        name="structure",
        label="structure",
        short="str",
        weight=lambda config, _: config.structure_weight,
        loss=lambda t: structure_loss(t.real, t.fake, t.mask),
    ),
)

TERMS: dict[str, Term] = {term.name: term for term in _ROWS}

# The loss that a step returns for each discriminator: the adversarial one and all penalties.
DISCRIMINATOR = ReportedLoss(name="discriminator", label="discriminator", short="disc", per="target domain")

PENALTIES: dict[str, Penalty] = {
    "gradient": Penalty(
        label="gradient penalty",
        weight=lambda config: config.gradient_penalty_weight if config.adversarial == "wgan-gp" else 0.0,
        loss=_gradient_penalty,
        needs_mix=True,
    ),
    "r1": Penalty(
        label="gradient penalty on real images",
        weight=lambda config: config.r1_weight,
        loss=lambda d: r1_penalty(d.discriminator, d.real, d.mask_real),
        every=16,
    ),
}


# ---- reading them


def active_terms(config: TrainConfig, direction: Direction | None = None) -> list[Term]:
    """The terms that apply, in one direction or, without a direction, in any."""
    directions: tuple[Direction, ...] = ("a2b", "b2a") if direction is None else (direction,)
    return [term for term in TERMS.values() if any(term.weight_in(config, name) > 0 for name in directions)]


def needed_inputs(config: TrainConfig, direction: Direction | None = None) -> set[Input]:
    """The inputs that the terms that apply need, in one direction or in any."""
    return {name for term in active_terms(config, direction) for name in term.needs}


def active_penalties(config: TrainConfig) -> list[Penalty]:
    """The penalties with a weight."""
    return [penalty for penalty in PENALTIES.values() if penalty.weight(config) > 0]


def reported_losses() -> list[ReportedLoss]:
    """All losses that a step can return, in the order of the log."""
    return [*TERMS.values(), DISCRIMINATOR]


def logged_terms(config: TrainConfig) -> list[Term]:
    """The terms of the paper always, others where they apply."""
    active = active_terms(config)
    return [term for term in TERMS.values() if term.in_paper or term in active]


def loss_names(config: TrainConfig) -> list[str]:
    """The keys of what `train_step` returns: `logged_terms` and the discriminators."""
    return [name for loss in (*logged_terms(config), DISCRIMINATOR) for name in loss.names]

"""Training recipes by name: a preset with ingredients added or removed, such as `paper+contrastive`. Not a command.

Methods of others, which benchmarks/peers.py trains by their authors' code, have names, too.
"""

import re
from dataclasses import dataclass
from typing import Any

from cyclegan.config import PRESETS, flat_values, make_config
from cyclegan.errors import InputError

# The settings of each ingredient.
INGREDIENTS: dict[str, dict[str, Any]] = {
    "no_identity": {"identity_weight": 0.0},
    "small_identity": {"identity_weight": 0.1},
    "contrastive": {"contrastive_weight": 0.5},
    "structure": {"structure_weight": 5.0},
    "light_cycle": {"cycle_weight_a": 1.0, "cycle_weight_b": 1.0, "identity_weight": 0.0},
    "falling_cycle": {"cycle_end": 0.1},
    "noise": {"cycle_noise": 0.05},
    "average": {"translate_with": "average"},
    # Large, because the penalty is on the gradient of the mean over all patches.
    "r1": {"r1_weight": 100.0},
    "spectral": {"discriminator_norm": "spectral"},
    "plain_judge": {"discriminator_norm": "none"},
    "smooth": {"resampling": "smooth"},
    "reflect": {"padding": "reflect"},
    "skips": {"skips": True},
    "pyramid": {"discriminator": "pyramid"},
    "pixel_norm": {"norm": "layer"},
    # With the cycle weights of the paper, a network that begins as the identity stays there, as `global_skip` shows.
    "global_skip": {"global_skip": True},
    "skip": {"global_skip": True, "cycle_weight_a": 1.0, "cycle_weight_b": 1.0, "identity_weight": 0.0},
    "batch": {"batch_size": 4, "learning_rate": 4e-4},
    "no_flip": {"flip": False},
}
# The norm of the discriminators of the paper, set explicitly for generators with another norm.
INSTANCE_NORM = {"discriminator_norm": "instance"}


@dataclass(frozen=True)
class Peer:
    """A method. checkout: the name of the one it is in. arguments: of the train.py there.

    both_ways: one model learns both directions; else two models learn one each, side by side. A step is one of each
    model. each: the time is that of one direction, so that two models get twice the time of the other methods.
    """

    checkout: str
    arguments: tuple[str, ...]
    both_ways: bool = False
    each: bool = False


CHECKOUTS = {"cut": "taesungp/contrastive-unpaired-translation", "dclgan": "JunlinHan/DCLGAN"}
PEERS = {
    "cut": Peer("cut", ("--model", "cut", "--CUT_mode", "CUT")),
    "cut_each": Peer("cut", ("--model", "cut", "--CUT_mode", "CUT"), each=True),
    "fastcut": Peer("cut", ("--model", "cut", "--CUT_mode", "FastCUT")),
    "fastcut_each": Peer("cut", ("--model", "cut", "--CUT_mode", "FastCUT"), each=True),
    "dclgan": Peer("dclgan", ("--model", "dcl"), both_ways=True),
    "simdcl": Peer("dclgan", ("--model", "simdcl"), both_ways=True),
}


def preset_of(recipe: str) -> str:
    """The preset of a recipe, the first part of its name."""
    return re.split(r"[+-]", recipe)[0]


def resolve(recipe: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings in which a recipe differs from its preset. Its ingredients override `settings`.

    Removing an ingredient resets its settings to those of `paper`. Methods of others have `settings` alone.
    Raises InputError for an unknown preset or ingredient, for an ingredient to remove from a preset that does not
    have all of it, or for settings that do not go together.
    """
    if recipe in PEERS:
        return settings
    preset, *changes = re.split(r"(?=[+-])", recipe)
    if preset not in PRESETS:
        raise InputError(f"{recipe!r} begins with no preset; choose one of: {', '.join(PRESETS)}.")
    values: dict[str, Any] = {}
    paper = flat_values(make_config(INSTANCE_NORM, preset="paper"))
    for change in changes:
        name = change[1:]
        if name not in INGREDIENTS:
            raise InputError(f"{recipe!r}: there is no ingredient {name!r}; choose from: {', '.join(INGREDIENTS)}.")
        so_far, ingredient = {**PRESETS[preset], **settings, **values}, INGREDIENTS[name]
        if change[0] == "+":
            if "norm" in ingredient and "discriminator_norm" not in so_far:
                values |= INSTANCE_NORM
            values |= ingredient
        elif any(so_far.get(key) != value for key, value in ingredient.items()):
            raise InputError(f"{recipe!r}: there is no {name} to take away, or not all of it.")
        else:
            values |= {key: paper[key] for key in ingredient}
    resolved = flat_values(make_config({**settings, **values}, preset=preset))
    return {name: resolved[name] for name in {**settings, **values}}

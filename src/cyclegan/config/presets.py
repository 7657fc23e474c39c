"""Presets: the values in which each one differs from the defaults of `TrainConfig`."""

from typing import Any

# Shared by `modern` and `conservative`. The input is added to the output, so there is no identity term to teach that,
# and the cycle weights are small: with those of the paper a network stays at its input.
_BEYOND: dict[str, Any] = {
    "global_skip": True,
    "identity_weight": 0.0,
    "norm": "layer",
    "discriminator_norm": "spectral",
    "resampling": "smooth",
    "precision": "auto",
}

# The preset of values that are not given. A TrainConfig made directly has those of the paper.
DEFAULT_PRESET = "modern"

_MODERN: dict[str, Any] = {**_BEYOND, "cycle_weight_a": 1.0, "cycle_weight_b": 1.0, "contrastive_weight": 0.5}

# A preset is a flat dict of the values in which it differs from the defaults of `TrainConfig`.
PRESETS: dict[str, dict[str, Any]] = {
    # The recipe of the paper as its authors' code runs it: 256 px, 100 + 100 epochs, batch 1, identity weight 0.5.
    "paper": {},
    # Better translations in the same time; benchmarks/quality.py compares the presets.
    "modern": _MODERN,
    # For images whose shapes must not change: three times the cycle of `modern`, a structure term, no contrastive term.
    "conservative": {
        **_BEYOND,
        "cycle_weight_a": 3.0,
        "cycle_weight_b": 3.0,
        "structure_weight": 5.0,
    },
    # For `cyclegan demo` on two CPU cores; docs/research/demo.md describes how its sizes were found.
    "demo": {
        **_MODERN,
        "minutes": 10.0,
        "width": 16,
        "blocks": 4,
        "discriminator_layers": 2,
        "discriminator_width": 16,
        "crop_size": 96,
        "translate_with": "average",
        "checkpoint_minutes": 2.0,
    },
}

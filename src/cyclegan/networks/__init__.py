"""Generators and discriminators: the two registries, and the functions that build, initialise and prepare networks.

To add a network, write one file with a subclass of `Generator` or `Discriminator` (see `protocol`) and add one row
below. A script adds its class before it trains or loads: `GENERATORS["mine"] = MyGenerator`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyclegan.networks.building import (
        build_discriminator,
        build_generator,
        build_heads,
        check_output,
        count_parameters,
        enable_checkpointing,
        freeze,
        initialise,
        to_plain_convs,
        train_mode,
    )
    from cyclegan.networks.patch_projection import ProjectionHeads
    from cyclegan.networks.patchgan import PatchDiscriminator, PixelDiscriminator, PyramidDiscriminator
    from cyclegan.networks.protocol import Discriminator, Generator, Sizes
    from cyclegan.networks.resnet import ResnetGenerator
    from cyclegan.networks.unet import UnetGenerator

    # From the name in the configuration to the class. Plain dicts, made of the rows below at their first use.
    GENERATORS: dict[str, type[Generator]]
    DISCRIMINATORS: dict[str, type[Discriminator]]

__all__ = [
    "DISCRIMINATORS",
    "GENERATORS",
    "Discriminator",
    "Generator",
    "PatchDiscriminator",
    "PixelDiscriminator",
    "ProjectionHeads",
    "PyramidDiscriminator",
    "ResnetGenerator",
    "Sizes",
    "UnetGenerator",
    "build_discriminator",
    "build_generator",
    "build_heads",
    "check_output",
    "count_parameters",
    "enable_checkpointing",
    "freeze",
    "initialise",
    "registered_names",
    "to_plain_convs",
    "train_mode",
]

# One row for each network: the name in the configuration, and the module and class. Rows are text, because the names
# are listed by `cyclegan train --help`, which must not wait for torch.
_ROWS = {
    "GENERATORS": {
        "resnet": "resnet.ResnetGenerator",
        "unet": "unet.UnetGenerator",
    },
    "DISCRIMINATORS": {
        "patch": "patchgan.PatchDiscriminator",
        "pixel": "patchgan.PixelDiscriminator",
        "pyramid": "patchgan.PyramidDiscriminator",
    },
}

# The modules of the other public names.
_HOMES = {
    **dict.fromkeys(("Discriminator", "Generator", "Sizes"), "protocol"),
    **dict.fromkeys(("PatchDiscriminator", "PixelDiscriminator", "PyramidDiscriminator"), "patchgan"),
    "ProjectionHeads": "patch_projection",
    "ResnetGenerator": "resnet",
    "UnetGenerator": "unet",
}


def registered_names(registry: str) -> tuple[str, ...]:
    """The names in a registry, GENERATORS or DISCRIMINATORS. Does not load torch."""
    return tuple(globals().get(registry, _ROWS[registry]))


def __getattr__(name: str) -> Any:
    """Load at first use, so that the names alone do not load torch."""
    if name in _ROWS:
        found: Any = {key: _load(*place.split(".")) for key, place in _ROWS[name].items()}
    elif name in __all__:
        found = _load(_HOMES.get(name, "building"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, found)


def _load(module: str, name: str) -> Any:
    return getattr(import_module(f"{__name__}.{module}"), name)

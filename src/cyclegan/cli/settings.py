"""Settings of training as flags."""

import argparse
from typing import Annotated, Any, get_args, get_origin

from pydantic.fields import FieldInfo

from cyclegan.cli.arguments import with_default
from cyclegan.config import OLD_WORDS, FlagText, choices, network_names


def add_setting(group: Any, name: str, info: FieldInfo, default: Any) -> None:
    """One flag for one setting. Values stay text (`FlagText`): the configuration checks and converts them."""
    types = [kind for kind in get_args(info.annotation) if kind is not type(None)] or [info.annotation]
    types = [getattr(kind, "__origin__", kind) if get_origin(kind) is Annotated else kind for kind in types]
    text = str(info.description) if default in (None, {}) else with_default(str(info.description), default)
    text = text.replace("%", "%%")
    words = network_names(name) or choices(info.annotation)
    options: dict[str, Any]
    if info.annotation is bool:
        options = {"action": argparse.BooleanOptionalAction}
    elif words:
        options = {"choices": words, "type": lambda word: OLD_WORDS.get(name, {}).get(word, word)}
    elif str(info.annotation).startswith("dict"):
        options = {"action": "append", "metavar": "NAME=VALUE"}
    elif str(types[0]).startswith("tuple"):
        options = {"nargs": 2, "type": float, "metavar": ("LOW", "HIGH")}
    else:
        options = {"metavar": getattr(types[0], "__name__", "value").upper().replace("STR", "TEXT")}
        if types[0] in (int, float):
            options["type"] = FlagText
    group.add_argument("--" + name.replace("_", "-"), help=text, default=argparse.SUPPRESS, **options)

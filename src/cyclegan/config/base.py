"""The base of all configurations: frozen, validated, strict about its keys."""

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict

from cyclegan.errors import InputError
from cyclegan.system.json_files import shown


class FlagText(str):
    """The value of a flag as it was typed, which becomes a number where a setting is one. Other text does not."""

    __slots__ = ()


class Config(BaseModel):
    """Frozen, validated, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    def replace(self, **changes: Any) -> Self:
        """A validated copy with these fields changed."""
        return type(self).model_validate({**{name: getattr(self, name) for name in type(self).model_fields}, **changes})


def check_no_text(section: type[Config], values: Mapping[str, Any]) -> None:
    """Raises InputError for text in the place of a number; that of a flag becomes one when it is validated."""
    for name, value in values.items():
        annotation = section.model_fields[name].annotation
        kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
        if type(value) is str and all(kind in (int, float, bool, NoneType) for kind in kinds):
            kind = "True or False" if bool in kinds else "a number"
            raise InputError(f"{name} is {shown(value)}: expected {kind}, and this is text; leave out the quotes.")

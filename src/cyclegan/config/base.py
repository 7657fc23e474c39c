"""The base of all configurations: frozen, validated, strict about its keys."""

from types import NoneType, UnionType
from typing import Any, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class FlagText(str):
    """The value of a flag as it was typed, which becomes a number where a setting is one. Other text does not."""

    __slots__ = ()


class Config(BaseModel):
    """Frozen, validated, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _check_text(cls, value: Any, info: ValidationInfo) -> Any:
        if type(value) is str:
            annotation = cls.model_fields[str(info.field_name)].annotation
            is_union = get_origin(annotation) in (Union, UnionType)
            kinds = set(get_args(annotation)) - {NoneType} if is_union else {annotation}
            if kinds <= {int, float, bool}:
                kind = "True or False" if bool in kinds else "a number"
                raise ValueError(f"expected {kind}, and this is text; leave out the quotes")
        return value

    def replace(self, **changes: Any) -> Self:
        """A validated copy with these fields changed."""
        return type(self).model_validate({**{name: getattr(self, name) for name in type(self).model_fields}, **changes})

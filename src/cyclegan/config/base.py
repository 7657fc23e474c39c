"""The base of all configurations: frozen, validated, strict about its keys."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError


class Config(BaseModel):
    """Frozen, validated, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    def replace(self, **changes: Any) -> Self:
        """A validated copy with these fields changed."""
        return type(self).model_validate({**{name: getattr(self, name) for name in type(self).model_fields}, **changes})


def describe_validation_error(error: ValidationError) -> str:
    """One sentence for each mistake: the setting, the value and what was expected."""
    sentences = []
    for mistake in error.errors():
        message = mistake["msg"].removeprefix("Value error, ")
        if mistake["loc"] and mistake["loc"] not in (("model",), ("data",)):
            name = str(mistake["loc"][-1] if len(mistake["loc"]) < 2 else mistake["loc"][1])
            name = name if mistake["loc"][0] in ("model", "data") else str(mistake["loc"][0])
            if mistake["type"] == "missing":
                sentences.append(f"{name} is missing; give it a value.")
            else:
                sentences.append(f"{name} is {mistake['input']!r}: {message[0].lower()}{message[1:]}.")
        else:
            sentences.append(f"{message}.")
    return " ".join(sentences)

"""Read JSON files that this package wrote earlier, and that may be damaged, edited or made to do harm since."""

from pathlib import Path
from reprlib import Repr
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from cyclegan.errors import UnreadableError, reason_of

T = TypeVar("T")

# Far above what this package writes, and far below what would exhaust the memory.
_MAX_BYTES = 2**28

# Characters of a value that a message repeats, of one sentence, and after which no more mistakes are listed.
_SHOWN = 80
_LONGEST, _ENOUGH = 300, 350

_BRIEF = Repr()
_BRIEF.maxlevel, _BRIEF.maxlist, _BRIEF.maxtuple, _BRIEF.maxdict = 3, 8, 8, 8
_BRIEF.maxstring = _BRIEF.maxlong = _SHOWN


def read_json(path: Path, kind: type[T] | TypeAdapter[T]) -> T:
    """The content of a JSON file, validated as `kind`: a pydantic model, or any other type.

    Raises UnreadableError if it is missing, is not JSON in UTF-8, or does not fit.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UnreadableError(f"{path} has {path.stat().st_size:,} bytes; expected at most {_MAX_BYTES:,}.")
        content: T = _adapter(kind).validate_json(path.read_bytes())
        return content
    except ValidationError as error:
        raise UnreadableError(f"{path} cannot be read: {describe_validation_error(error)}") from None
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {reason_of(error)}.") from None


def read_json_lines(path: Path, kind: type[T] | TypeAdapter[T]) -> tuple[list[T], int]:
    """The lines of a file, each validated as `kind`, and the number of lines that do not fit, which are left out.

    A kill may leave an incomplete last line. Raises UnreadableError if the file is missing or cannot be read.
    """
    adapter, num_damaged = _adapter(kind), 0
    lines: list[T] = []
    try:
        with path.open("rb") as file:
            for line in file:
                try:
                    lines.append(adapter.validate_json(line))
                except ValidationError:
                    num_damaged += bool(line.strip())
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {reason_of(error)}.") from None
    return lines, num_damaged


def describe_validation_error(error: ValidationError) -> str:
    """One sentence for each mistake: the setting, the value and what was expected. Long values are cut."""
    sentences = []
    for mistake in error.errors(include_url=False):
        message = mistake["msg"].removeprefix("Value error, ").rstrip(".")
        place = [str(part) for part in mistake["loc"] if part not in ("model", "data")]
        if mistake["type"] == "missing":
            sentences.append(f"{cut('.'.join(map(str, mistake['loc'])))} is missing; give it a value.")
        elif not place:
            sentences.append(f"{cut(message, _LONGEST)}.")
        else:
            name, value = cut(".".join(place)), shown(mistake["input"])
            sentences.append(f"{name} is {value}: {cut(message[:1].lower() + message[1:], _LONGEST)}.")
    listed = 1
    while listed < len(sentences) and sum(map(len, sentences[:listed])) < _ENOUGH:
        listed += 1
    more = len(sentences) - listed
    return " ".join(sentences[:listed]) + (f" And {more} more mistakes." if more > 0 else "")


def shown(value: object) -> str:
    """A value of unknown origin as a message repeats it: like `repr`, but short, and for every value."""
    if isinstance(value, str):
        return cut(repr(value[: _SHOWN + 1]))
    if isinstance(value, list | tuple | dict):  # which may hold millions of values
        return cut(_BRIEF.repr(value))
    try:
        return cut(repr(value))
    except ValueError:  # Python's limit
        return "a number of too many digits"


def cut(text: str, longest: int = _SHOWN) -> str:
    """The text, or its beginning and dots if it is long."""
    return text if len(text) <= longest else f"{text[:longest]}..."


def _adapter(kind: type[T] | TypeAdapter[T]) -> TypeAdapter[Any]:
    return kind if isinstance(kind, TypeAdapter) else TypeAdapter(kind)

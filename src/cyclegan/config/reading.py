"""How the files of a domain are read: which bands, which holes, what becomes of transparency, and which page."""

import math
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import AfterValidator, BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer

from cyclegan.config.base import Config
from cyclegan.config.model import MAX_CHANNELS

_MAX_TEXT = 10_000

# The slices of a volume, by the planes of the patient that they lie in.
Axis: TypeAlias = Literal["axial", "coronal", "sagittal"]
AXES: tuple[Axis, ...] = get_args(Axis)
DEFAULT_AXIS: Axis = "axial"


def _as_text(value: Any) -> Any:
    """Numbers and lists of numbers, as Python programs pass them, as text."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return f"{value:.17g}"
    if isinstance(value, list | tuple) and all(isinstance(item, int | str) for item in value):
        return ",".join(map(str, value))
    return value


def _check_bands(text: str) -> str:
    names = [name.strip() for name in text.split(",")]
    if len(names) > MAX_CHANNELS or not all(names) or any(name.isdigit() and int(name) < 1 for name in names):
        raise ValueError(f"{text!r} is no list of bands; give numbers from 1 on or names, such as 4,3,2")
    return ",".join(names)


def _check_nodata(text: str) -> str:
    word = text.strip().lower()
    if word not in ("none", "nan"):
        try:
            float(word)
        except ValueError:
            raise ValueError(f"{text!r} is neither a number nor nan nor none") from None
    return word


def _check_colour(text: str) -> str:
    from PIL import ImageColor

    try:
        ImageColor.getrgb(text)
    except ValueError:
        raise ValueError(f"{text!r} is no colour; give a name such as white, or #rrggbb") from None
    return text


# Text in files and on the command line alike. Bands: numbers from 1 on, or names; no data: a number, nan or none.
Bands = Annotated[str, BeforeValidator(_as_text), Field(max_length=_MAX_TEXT), AfterValidator(_check_bands)]
NoData = Annotated[str, BeforeValidator(_as_text), Field(max_length=100), AfterValidator(_check_nodata)]
Colour = Annotated[str, Field(max_length=100), AfterValidator(_check_colour)]


class Reading(Config):
    """How a file is read. The defaults take what the file itself says.

    bands: which of its bands to take, in this order. nodata: the value of holes instead of the one that the file names;
    `nan`: only NaN marks holes; `none`: all values count. background: the colour behind transparent pixels; without it
    transparency is carried over, and fully transparent pixels are holes. page: of a file with several, from 1 on; of a
    whole slide, the level of its pyramid. mpp: microns per pixel at which whole slides are read.
    axis: the slices that a volume is read in; by default axial ones.
    """

    bands: Bands | None = None
    nodata: NoData | None = None
    background: Colour | None = None
    page: int | None = Field(None, ge=1, le=10**9)
    mpp: float | None = Field(None, gt=0, le=10**6)
    axis: Axis | None = None

    @model_serializer(mode="wrap")
    def _without_defaults(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what the file decides, so that a model's config.json says only what was chosen."""
        return {name: value for name, value in serialise(self).items() if value is not None}

    @property
    def band_names(self) -> tuple[str, ...]:
        """Numbers and names of the bands to take; empty for all."""
        return tuple(self.bands.split(",")) if self.bands else ()

    def nodata_of(self, found: float | None) -> float | None:
        """The value that marks holes, if the file names `found`. NaN marks holes in any case but `none`."""
        if self.nodata is None:
            return found
        return None if self.nodata == "none" else math.nan if self.nodata == "nan" else float(self.nodata)


# Everything as the file says.
AS_IT_IS = Reading()

"""How often a translation shows known changes of its input: the rows in scores.json, and their intervals."""

from typing import Literal, TypeAlias

from pydantic import Field

from cyclegan.config import Config

ProbeKind: TypeAlias = Literal["lesion", "missing", "line", "brightness"]


class ProbeRate(Config):
    """How often probes of one kind, size and contrast are shown. Shares run from 0 to 1.

    size: diameter as a share of the shorter side. contrast: share of the value range; None for all probes that a
    person sees in the input, of any contrast. seen: share of the probes that a person sees in the input. kept, moved,
    lost: shares of the outcomes, which sum to 1. invented: share with a visible change elsewhere. low, high: the 95 %
    interval of `kept`. remaining, share_inside, displacement: medians, see `cyclegan.translate.probes.response`.
    """

    kind: ProbeKind
    size: float = Field(gt=0)
    contrast: float | None = None
    num_probes: int = Field(ge=1)
    num_images: int = Field(ge=1)
    seen: float = Field(ge=0, le=1)
    kept: float = Field(ge=0, le=1)
    moved: float = Field(ge=0, le=1)
    lost: float = Field(ge=0, le=1)
    invented: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)
    remaining: float | None = None
    share_inside: float | None = None
    displacement: float | None = None

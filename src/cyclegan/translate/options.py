"""How images are translated: all options of `translate_folder` and `cyclegan translate`, checked and applied once."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cyclegan.config import AXES, Axis, SelfEnsemble
from cyclegan.errors import InputError
from cyclegan.images.filetypes.derived_dicom import PATIENT_DATA, PatientData
from cyclegan.images.windows import Window
from cyclegan.system.arguments import MAX_SIDE, check_bool, check_choice, check_float, check_int
from cyclegan.system.json_files import shown
from cyclegan.translate.large_files import Compression, StatisticsKind
from cyclegan.translate.plan import TranslationPlan, sequences
from cyclegan.translate.self_ensemble import check_self_ensemble
from cyclegan.translate.stabilise import MEMORY_FRAMES, check_memory, needs_stabilising
from cyclegan.translate.translator import BatchSize, Translator, check_batch_size


@dataclass(frozen=True)
class TranslateOptions:
    """How images are translated. The fields, their meanings and defaults are those of `translate_folder`."""

    batch_size: BatchSize = "auto"
    short_side: int | None = None
    scale_width: int | None = None
    tile: int | Literal["auto"] | None = "auto"
    statistics: StatisticsKind = "exact"
    stabilise: bool = False
    memory_frames: float | None = None
    bands: str | None = None
    nodata: float | str | None = None
    page: int | None = None
    pages: Literal["all"] | None = None
    axis: Axis | None = None
    patient_data: PatientData = "none"
    background: str | None = None
    keep_profile: bool = False
    mpp: float | None = None
    compression: Compression = "auto"
    skip_existing: bool = False
    shard: str | None = None
    window: Sequence[int] | None = None
    bounds: Sequence[float] | None = None
    bounds_crs: str | None = None
    cog: bool = False
    self_ensemble: SelfEnsemble | None = None

    def check(self, name_of: Callable[[str], str] = str) -> None:
        """Raises InputError for values that cannot be used. name_of: a field -> its name in the message."""
        self._check_values(name_of)
        self._check_together(name_of)

    def _check_values(self, name_of: Callable[[str], str]) -> None:
        """Each value by itself."""
        check_batch_size(name_of("batch_size"), self.batch_size)
        for field in ("short_side", "scale_width"):
            if (value := getattr(self, field)) is not None:
                check_int(name_of(field), value, least=1, most=MAX_SIDE, unit=" pixel")
        for field in ("stabilise", "keep_profile", "skip_existing", "cog"):
            check_bool(name_of(field), getattr(self, field))
        check_choice(name_of("statistics"), self.statistics, ("exact", "crops", "reduced"))
        check_choice(name_of("compression"), self.compression, ("auto", "lossless", "jpeg"))
        check_choice(name_of("patient_data"), self.patient_data, PATIENT_DATA)
        if self.self_ensemble is not None:
            check_self_ensemble(name_of("self_ensemble"), self.self_ensemble)
        if self.axis is not None:
            check_choice(name_of("axis"), self.axis, AXES)
        self._parse_shard(name_of)
        if self.pages is not None and self.pages != "all":
            raise InputError(f"{name_of('pages')} is {shown(self.pages)}; expected all.")
        if self.mpp is not None and check_float(name_of("mpp"), self.mpp, least=0) == 0:
            raise InputError(f"{name_of('mpp')} is 0; expected microns per pixel, such as 0.5.")
        if isinstance(self.tile, str) and self.tile != "auto":
            raise InputError(f"{name_of('tile')} is {shown(self.tile)}; expected a number of pixels, auto or None.")
        if self.tile is not None and self.tile != "auto":
            check_int(name_of("tile"), self.tile, least=0)

    def _check_together(self, name_of: Callable[[str], str]) -> None:
        """Values that exclude or need each other."""
        Window.of(self.window, self.bounds, self.bounds_crs, name_of)
        if self.short_side is not None and self.scale_width is not None:
            raise InputError(
                f"{name_of('short_side')} is {self.short_side} and {name_of('scale_width')} is {self.scale_width}; "
                "pass one of them."
            )
        if self.mpp is not None and self.page is not None:
            raise InputError(
                f"{name_of('mpp')} is {self.mpp:g} and {name_of('page')} is {self.page}; give one of them."
            )
        if self.pages is not None and self.page is not None:
            raise InputError(f"{name_of('page')} is one page, and {name_of('pages')} is all; give one of them.")
        if self.memory_frames is not None:
            if not self.stabilise:
                raise InputError(f"{name_of('memory_frames')} is for {name_of('stabilise')}; give both.")
            check_memory(check_float(name_of("memory_frames"), self.memory_frames, least=1))
        if self.tile_side is not None and (self.is_scaled or self.stabilise):
            scaling = f"{name_of('short_side')} and {name_of('scale_width')}"
            raise InputError(
                f"{name_of('tile')} {self.tile} is for images by themselves and at their own size, "
                f"{name_of('stabilise') if self.stabilise else scaling} is not; give one."
            )

    def _parse_shard(self, name_of: Callable[[str], str] = str) -> tuple[int, int]:
        """The number of the shard, from 1 on, and how many there are."""
        if self.shard is None:
            return 1, 1
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", self.shard) if isinstance(self.shard, str) else None
        number, count = map(int, found.groups()) if found else (0, 0)
        if not 1 <= number <= count:
            raise InputError(
                f"{name_of('shard')} is {shown(self.shard)}; expected the number of a part and how many there are, "
                "such as 1/8."
            )
        return number, count

    @property
    def num_shards(self) -> int:
        """Parts that the files are shared out in."""
        return self._parse_shard()[1]

    def take_shard(self, plan: TranslationPlan) -> TranslationPlan:
        """The files of a plan that are in the shard: every N-th, or every N-th folder of frames to be stabilised."""
        number, count = self._parse_shard()
        if count == 1:
            return plan
        if not self.stabilise:
            return plan.take(np.arange(number - 1, len(plan), count))
        return TranslationPlan.of([pair for frames in sequences(plan)[number - 1 :: count] for pair in frames])

    def check_single(self, path: Path) -> None:
        """Raises InputError if these options are for single images, and this file holds several."""
        name = "a window" if self.part is not None else "a COG" if self.cog else None
        if name is not None:
            raise InputError(f"{path} holds several pictures, and {name} is for files with one; leave out one of both.")

    def apply(self, translator: Translator, note: Callable[[str], None]) -> tuple[Translator, "TranslateOptions"]:
        """The translator, which reads files as these options say, and the options that have an effect with it.

        note: receives a sentence if stabilising is left out, because the network has no instance norm to stabilise.
        Raises InputError for a bad value.
        """
        names = ("bands", "nodata", "page", "axis", "background", "mpp")
        changes = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.page is not None:  # a level of a slide, instead of the scale that the model was trained at
            changes["mpp"] = None
        if changes:
            translator = translator.with_reading(**changes)
        if self.self_ensemble is not None:
            translator = translator.with_self_ensemble(self.self_ensemble)
        if not self.stabilise or needs_stabilising(translator.network):
            return translator, self
        note(
            "Stabilising changes nothing here: without instance norm this model translates a frame the same, whatever "
            "the other frames show."
        )
        return translator, replace(self, stabilise=False, memory_frames=None)

    @property
    def tile_side(self) -> int | None:
        """Side of the tiles if it is given; None for `auto` and for no tiles."""
        return None if self.tile is None or isinstance(self.tile, str) else int(self.tile)

    @property
    def min_batch_size(self) -> int:
        """Images of a batch that must fit into memory together: one for `auto`."""
        return 1 if self.batch_size == "auto" else int(self.batch_size)

    @property
    def part(self) -> Window | None:
        """The part of each image that is translated; None: all of it."""
        return Window.of(self.window, self.bounds, self.bounds_crs)

    @property
    def is_scaled(self) -> bool:
        """Whether images are scaled for the network."""
        return self.short_side is not None or self.scale_width is not None

    @property
    def for_network(self) -> dict[str, Any]:
        """What `translate_files`, `translate_sequence` and `translate_video` take of these."""
        names = ("batch_size", "short_side", "scale_width", "stabilise")
        return {name: getattr(self, name) for name in names} | {"memory_frames": self.memory_frames or MEMORY_FRAMES}

    @property
    def for_output(self) -> dict[str, Any]:
        """What `translate_files`, `translate_sequence` and `translate_large` take of these."""
        return {"keep_profile": self.keep_profile, "background": self.background}

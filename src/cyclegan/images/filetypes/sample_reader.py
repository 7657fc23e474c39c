"""From samples of a region to what a model takes, independent of how the image is cut into regions."""

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cyclegan.errors import InputError
from cyclegan.images import Array
from cyclegan.images.formats import ImageFormat
from cyclegan.images.holes import BLOCK
from cyclegan.images.interpret import interpret_as
from cyclegan.images.raster import Metadata, Raster
from cyclegan.images.regions import Box, crop


class SampleReader(ABC):
    """A `RegionReader` of a file whose samples can be read by region.

    described: the metadata of the file. `metadata` is that of the image, after the choice of bands.
    """

    def __init__(
        self, path: Path, image_format: ImageFormat, height: int, width: int, dtype: Any, described: Metadata
    ) -> None:
        self._path, self._format, self._described = path, image_format, described
        self.height, self.width, self._dtype = height, width, np.dtype(dtype)
        self.metadata = described

    @abstractmethod
    def samples(self, box: Box) -> Raster:
        """All samples of a box, (h, w, C), and its mask; as the reader of the whole file returns them."""

    @abstractmethod
    def close(self) -> None: ...

    @property
    def has_mask(self) -> bool:
        """Whether the file has a mask of its own."""
        return False

    @property
    def is_exact(self) -> bool:
        """Whether other decoders give the same samples."""
        return True

    @property
    def num_rows(self) -> int:
        """Rows that are best read together."""
        return BLOCK

    def fits_format(self, num_samples: int) -> bool:
        """Whether the file has the channels of the format; sets `metadata`. Reading the whole file says why not."""
        try:
            pixel = Raster(np.zeros((1, 1, num_samples), self._dtype), metadata=self._described)
            self.metadata = interpret_as(self._path, pixel, self._format).metadata
        except InputError:
            return False
        return True

    def read(self, box: Box) -> Array:
        """The values of `read_raster`."""
        return self.read_raster(box).values

    def read_raster(self, box: Box) -> Raster:
        """Raises InputError for infinity, UnreadableError if the file is damaged."""
        # Holes are filled in aligned squares, so that a pixel does not depend on the box.
        grown = box
        if self._may_have_holes():
            grown = Box(
                box.top // BLOCK * BLOCK,
                min(-(-box.bottom // BLOCK) * BLOCK, self.height),
                box.left // BLOCK * BLOCK,
                min(-(-box.right // BLOCK) * BLOCK, self.width),
            )
        raster = interpret_as(self._path, self.samples(grown), self._format)
        top, left = grown.top, grown.left
        part = crop(raster, Box(box.top - top, box.bottom - top, box.left - left, box.right - left))
        return replace(part, valid=None) if part.valid is not None and part.valid.all() else part

    def _may_have_holes(self) -> bool:
        extra = self._described.extra_samples or (0,)
        return self.has_mask or extra[-1] in (1, 2) or self._dtype.kind == "f" or self._marks_holes()

    def _marks_holes(self) -> bool:
        return self._format.nodata_of(self._described.nodata) is not None

    def has_holes(self) -> bool:
        """By what the file says, or for floats, which may be NaN without a word, by a look at all of them."""
        if self.has_mask or self._marks_holes():
            return True
        if self._dtype.kind != "f" or self._format.nodata == "none":
            return False
        rows = max(BLOCK, self.num_rows)
        boxes = (Box(top, min(top + rows, self.height), 0, self.width) for top in range(0, self.height, rows))
        return any(np.isnan(self.samples(box).values).any() for box in boxes)

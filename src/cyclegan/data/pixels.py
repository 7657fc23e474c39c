"""A decoded image on its way into a batch."""

from typing import NamedTuple

from cyclegan.images import Array
from cyclegan.images.raster import Mask
from cyclegan.images.resizing import resize, resize_mask


class Pixels(NamedTuple):
    """Values, (H, W, C), and which of them are not in holes, (H, W); None: all."""

    values: Array
    valid: Mask | None = None

    @property
    def nbytes(self) -> int:
        """The memory of both."""
        return self.values.nbytes + (0 if self.valid is None else self.valid.nbytes)

    @property
    def height(self) -> int:
        return int(self.values.shape[0])

    @property
    def width(self) -> int:
        return int(self.values.shape[1])

    @property
    def valid_share(self) -> float:
        """The share of pixels that are not in holes."""
        return 1.0 if self.valid is None else float(self.valid.mean())

    def resized(self, height: int, width: int) -> "Pixels":
        """In another size. Holes are filled from around them, so little is mixed into the values at their borders."""
        valid = None if self.valid is None else resize_mask(self.valid, height, width)
        return Pixels(resize(self.values, height, width), valid)

    def cropped(self, top: int, left: int, size: int) -> "Pixels":
        """A square."""
        rows, columns = slice(top, top + size), slice(left, left + size)
        return Pixels(self.values[rows, columns], None if self.valid is None else self.valid[rows, columns])

    def mirrored(self) -> "Pixels":
        """Left and right exchanged."""
        return Pixels(self.values[:, ::-1], None if self.valid is None else self.valid[:, ::-1])

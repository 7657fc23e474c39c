"""Images that are stored in a grid of blocks, such as the tiles of a TIFF, and are read by region."""

from collections import OrderedDict
from collections.abc import Callable

from cyclegan.images import Array
from cyclegan.images.regions import Box


class BlockCache:
    """The blocks that were read last: up to so many bytes, but at least so many blocks, as a row of the grid has."""

    def __init__(self, max_bytes: int, min_blocks: int) -> None:
        self._max_bytes, self._min_blocks, self._num_bytes = max_bytes, min_blocks, 0
        self._blocks: OrderedDict[tuple[int, ...], Array] = OrderedDict()

    def __len__(self) -> int:
        return len(self._blocks)

    def get(self, key: tuple[int, ...], read: Callable[[], Array]) -> Array:
        """The block of a key, which is read if it is not kept."""
        if key in self._blocks:
            self._blocks.move_to_end(key)
            return self._blocks[key]
        block = self._blocks[key] = read()
        self._num_bytes += block.nbytes
        while self._num_bytes > self._max_bytes and len(self._blocks) > self._min_blocks:
            self._num_bytes -= self._blocks.popitem(last=False)[1].nbytes
        return block


def fill_region(out: Array, box: Box, rows: int, columns: int, block_at: Callable[[int, int], Array]) -> None:
    """Fill `out`, (h, w, C), with a box of an image.

    rows, columns: of a block. block_at: row and column in the grid -> a block (h, w, C), which may end at the border.
    """
    for row in range(box.top // rows, -(-box.bottom // rows)):
        for column in range(box.left // columns, -(-box.right // columns)):
            block, top, left = block_at(row, column), row * rows, column * columns
            y, x = max(top, box.top), max(left, box.left)
            bottom, right = min(top + block.shape[0], box.bottom), min(left + block.shape[1], box.right)
            out[y - box.top : bottom - box.top, x - box.left : right - box.left] = block[
                y - top : bottom - top, x - left : right - left
            ]

"""The boxes of JP2, JPEG XL and other files of the ISO base media format (ISO/IEC 14496-12, section 4.2)."""

from collections.abc import Iterator
from typing import IO, NamedTuple

_MOST_BOXES = 1000


class IsoBox(NamedTuple):
    """One box. begin, content: where it and its content begin. length: bytes of its content; None: to the end."""

    kind: bytes
    begin: int
    content: int
    length: int | None


def walk_boxes(file: IO[bytes]) -> Iterator[IsoBox]:
    """The boxes of an open file, up to the first that is damaged or cut off. Each may be read before the next."""
    begin = 0
    for _ in range(_MOST_BOXES):
        file.seek(begin)
        head = file.read(16)
        if len(head) < 8:
            return
        length, kind, header = int.from_bytes(head[:4], "big"), head[4:8], 8
        if length == 1:
            length, header = int.from_bytes(head[8:16], "big"), 16
        yield IsoBox(kind, begin, begin + header, length - header if length >= header else None)
        if length < header:
            return
        begin += length


def make_box(kind: bytes, content: bytes) -> bytes:
    """A box of less than 4 GB."""
    return (len(content) + 8).to_bytes(4, "big") + kind + content

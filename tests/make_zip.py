"""Zips of folders of images, as datasets come in."""

import io
import zipfile

from PIL import Image


def png(value=0, size=8):
    file = io.BytesIO()
    Image.new("RGB", (size, size), (value % 256, 90, 30)).save(file, "PNG")
    return file.getvalue()


def images(top="mini/"):
    """Entries of a good dataset: 3, 2, 1 and 1 images."""
    counts = {"trainA": 3, "trainB": 2, "testA": 1, "testB": 1}
    return [(f"{top}{folder}/{index}.png", png(index)) for folder, count in counts.items() for index in range(count)]


def pack(entries, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return file.getvalue()

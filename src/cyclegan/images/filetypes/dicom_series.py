"""Which DICOM files belong to a series, their order in it, and the plane of the patient that they lie in."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cyclegan.config import Axis
from cyclegan.errors import damage_of
from cyclegan.images.filetypes.dicom import count_frames, read_header


def series_of(path: Path) -> str:
    """The UID of the series that a file belongs to; empty if it does not say."""
    import pydicom

    tag = "SeriesInstanceUID"
    return str(pydicom.dcmread(path, specific_tags=[tag], stop_before_pixels=True).get(tag) or "")


@dataclass(frozen=True)
class Series:
    """The files of one series, in the order of their places."""

    uid: str
    files: tuple[Path, ...]


def find_series(files: Iterable[Path]) -> tuple[list[Series], list[tuple[Path, str]]]:
    """The series that files belong to, and files without an image with reasons.

    The files of a series are sorted along the normal of its slices, or by their numbers where places are missing or
    shared, as in a series of times.
    """
    found: dict[str, list[_Slice]] = {}
    left_out: list[tuple[Path, str]] = []
    for path in files:
        try:
            dataset = read_header(path)
            count_frames(dataset)
            place, number = _place(dataset), float(dataset.get("InstanceNumber") or 0)
        except ImportError:
            raise
        except Exception as error:  # a damaged file raises errors of every kind
            left_out.append((path, damage_of(error)))
        else:
            series = str(dataset.get("SeriesInstanceUID") or path.parent)
            found.setdefault(series, []).append(_Slice(path, place, number))
    return [Series(uid, _sorted(items)) for uid, items in found.items()], left_out


class _Slice(NamedTuple):
    """A file of a series: millimetres along the normal, None if they are not known, and its number."""

    path: Path
    place: float | None
    number: float


def _sorted(items: list[_Slice]) -> tuple[Path, ...]:
    places = {item.place for item in items}
    is_ordered = None not in places and len(places) == len(items)

    def key(item: _Slice) -> tuple[float, str]:
        return (item.place if is_ordered and item.place is not None else item.number), item.path.name

    return tuple(item.path for item in sorted(items, key=key))


def _place(dataset: Any) -> float | None:
    """Millimetres along the normal of a slice; None if they are not known."""
    position, direction = dataset.get("ImagePositionPatient"), dataset.get("ImageOrientationPatient")
    if not position or not direction or len(position) != 3 or len(direction) != 6:
        return None
    rows, columns = np.array(direction, float).reshape(2, 3)
    return round(float(np.cross(rows, columns) @ np.array(position, float)), 4)


def plane_of(dataset: Any) -> Axis | None:
    """The plane of the patient that a slice is nearest to; None if it does not say how it lies."""
    direction = dataset.get("ImageOrientationPatient")
    if not direction or len(direction) != 6:
        return None
    rows, columns = np.array(direction, float).reshape(2, 3)
    planes: tuple[Axis, ...] = ("sagittal", "coronal", "axial")
    return planes[int(np.abs(np.cross(rows, columns)).argmax())]

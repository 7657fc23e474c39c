"""Volumes as sequences of slices: NIfTI and MGH files, written with the place and times of their source."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cyclegan.config import DEFAULT_AXIS, Axis
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images import Array
from cyclegan.images.codecs import read_raster
from cyclegan.images.filetypes.nifti import Volume, open_volume, write_like
from cyclegan.images.formats import ImageFormat
from cyclegan.images.holes import find_marked
from cyclegan.images.limits import check_memory
from cyclegan.images.raster import Raster
from cyclegan.sequences.formats import Frame, PictureSequence, SequenceTarget


@dataclass(frozen=True)
class OpenVolume:
    """What a written volume takes over from its source, and the axis that its slices come along."""

    volume: Volume
    axis: Axis


def is_volume(path: Path) -> bool:
    """Whether a file is a volume that can be opened. One slice makes a volume, too."""
    return open_volume(path).num_volumes > 0


def is_one_slice(path: Path) -> bool:
    """Whether a volume is a single picture."""
    volume = open_volume(path)
    return volume.num_volumes == 1 and min(volume.shape) == 1


@contextmanager
def read_volume(path: Path, image_format: ImageFormat) -> Iterator[PictureSequence]:
    """The slices of a volume along the axis of the image format, of all its volumes one after the other."""
    try:
        volume = open_volume(path)
    except InputError:
        raise
    except (UnreadableError, OSError) as error:
        raise UnreadableError(f"{path} cannot be read as a volume: {error}") from error
    axis = image_format.axis or DEFAULT_AXIS
    header, names = volume.slice_header(axis), volume.slice_names(axis)
    per_volume = volume.num_slices(axis)
    frames = (
        Frame(read_raster(path / name, image_format), volume=number // per_volume) for number, name in enumerate(names)
    )
    yield PictureSequence(path, header.height, header.width, len(names), frames, carried=OpenVolume(volume, axis))


def write_volume(place: Path, frames: Iterator[Frame], target: SequenceTarget) -> None:
    """Write slices as the volume that their source is. Raises InputError if the source is no volume."""
    source, image_format = target.source.carried, target.image_format
    if not isinstance(source, OpenVolume):
        raise InputError(
            f"{target.path.name} is a volume, and {target.source.path} does not say where its pictures lie in space; "
            "choose another kind of file."
        )
    volume, axis = source.volume, source.axis
    count = math.prod(volume.shape) * volume.num_volumes
    check_memory(f"{target.path.name} has {count:,} voxels and takes", count * image_format.pixel_bytes, "write")
    voxels = np.zeros((*volume.shape, volume.num_volumes, image_format.channels), image_format.dtype)
    places = ((index, number) for number in range(volume.num_volumes) for index in range(volume.num_slices(axis)))
    for frame, (index, number) in zip(frames, places, strict=False):
        volume.view(voxels, axis, index, number)[...] = _with_holes(frame.raster)
    keeps = target.patient_data == "keep"
    write_like(place, voxels, volume, name=target.path, keep_texts=keeps)


def _with_holes(raster: Raster) -> Array:
    """Values whose holes are NaN, or 0 among whole numbers, as outside of a brain mask."""
    valid = find_marked(raster)
    if valid is None:
        return raster.values
    hole = np.nan if raster.values.dtype.kind == "f" else 0
    return np.where(valid[..., None], raster.values, np.array(hole, raster.values.dtype))

"""Which images of a folder belong to one volume: the slices of a file, and the files of a DICOM series."""

from contextlib import suppress
from pathlib import Path

from cyclegan.images.file_formats import FILE_FORMATS, file_format_of
from cyclegan.images.file_list import FileList, is_slice, picture_suffixes
from cyclegan.images.filetypes.dicom_series import series_of
from cyclegan.images.pages import local_file


def volumes_of(files: FileList) -> list[str] | None:
    """For each image the name of its volume, which is its own name for a picture; None if no volume has two images.

    Reads the headers of DICOM files, and nothing of others.
    """
    pictures = picture_suffixes()
    if all(name.lower().endswith(pictures) for name in files.names()):
        return None
    found = [name if name.lower().endswith(pictures) else _volume_of(files.root, name) for name in files.names()]
    return found if len(set(found)) < len(found) else None


def _volume_of(root: Path, name: str) -> str:
    if is_slice(name):
        return name.rpartition("/")[0]
    with suppress(Exception), local_file(Path(root, name)) as (file, page):  # reading the file reports the error
        if page is not None:
            return name.rpartition("/")[0]
        if file_format_of(file) is FILE_FORMATS["dicom"]:
            return series_of(file) or name.rpartition("/")[0]
    return name

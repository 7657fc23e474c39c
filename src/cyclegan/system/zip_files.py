"""Zip files that hold arrays: what writes them stores them as they are, so that none is larger than it looks."""

import zipfile

# A network, or an index of headers, has a few hundred entries.
_MAX_ENTRIES = 50_000


def harm_in(archive: zipfile.ZipFile, num_bytes: int) -> str | None:
    """Why reading the entries of a zip file could take far more memory than its `num_bytes`; None if it could not."""
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        return "its entries are compressed, which PyTorch and NumPy never do to such files"
    if sum(entry.file_size for entry in entries) > num_bytes:
        return "its entries overlap or are longer than the file"
    if len(entries) > _MAX_ENTRIES:
        return f"it has {len(entries):,} entries, which no network has"
    return None

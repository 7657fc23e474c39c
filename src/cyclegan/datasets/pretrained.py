"""The pretrained generators of the CycleGAN authors: fetched and checked, not opened."""

from pathlib import Path

from cyclegan.config import InputError
from cyclegan.datasets.catalogue import MODELS, unknown
from cyclegan.datasets.fetching import Patience, fetch, workplace
from cyclegan.datasets.standard import address, announce, progress_console, tell_checksum

# torch.save writes a zip; until 2020 it wrote a pickle of protocol 2.
_BEGINS = (b"PK\x03\x04", b"\x80\x02")


def download_model(name: str, out: Path, *, mirror: str | None = None, patience: Patience | None = None) -> Path:
    """Save the generator `name` of MODELS as the file `out`, in the authors' own form (.pth). Returns `out`.

    A file that is there already is left as it is. Its contents are not looked into: whoever loads it does so with
    weights_only=True. mirror: see `address`.
    Raises DownloadError if it cannot be had, InputError for an unknown name or an `out` that is a folder.
    """
    if name not in MODELS:
        raise unknown(name, tuple(MODELS), "pretrained model")
    entry, out, console = MODELS[name], Path(out), progress_console()
    if out.is_dir():
        raise InputError(f"{out} is a folder; expected the name of the file to make, like {out / (name + '.pth')}.")
    if out.exists():
        console.print(f"{out} is there already; remove it to get it again.")
        return out
    url = address(entry, mirror)
    with workplace(out, console) as work:
        announce(entry, url, console)
        received = fetch(
            url,
            work,
            begins=_BEGINS,
            num_bytes=entry.num_bytes,
            sha256=entry.sha256,
            patience=patience,
            console=console,
        )
        tell_checksum(entry, received, console)
        received.path.rename(out)
    return out

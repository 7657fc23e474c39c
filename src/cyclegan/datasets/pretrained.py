"""Download and check the pretrained generators of the CycleGAN authors, without opening them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cyclegan.datasets.catalogue import MODELS, unknown
from cyclegan.datasets.fetching import Patience, fetch, workplace
from cyclegan.datasets.standard import address, announce, print_checksum
from cyclegan.system.messages import Messages

# First bytes: torch.save writes a zip; until 2020 it wrote a pickle of protocol 2.
_BEGINS = (b"PK\x03\x04", b"\x80\x02")


@contextmanager
def model_file(name: str, out: Path, *, mirror: str | None = None, patience: Patience | None = None) -> Iterator[Path]:
    """The file NAME.pth of the generator `name` of MODELS, in a hidden folder beside `out`, removed after the block.

    The file has the authors' format and is untrusted: load it with weights_only=True. mirror: see `address`.
    Raises DownloadError if the download fails, InputError for an unknown name or if `out` is there already.
    """
    if name not in MODELS:
        raise unknown(name, tuple(MODELS), "pretrained model")
    entry, messages = MODELS[name], Messages("datasets")
    url = address(entry, mirror)
    with workplace(out, messages) as work:
        announce(entry, url, messages)
        received = fetch(
            url,
            work,
            begins=_BEGINS,
            num_bytes=entry.num_bytes,
            sha256=entry.sha256,
            patience=patience,
            messages=messages,
        )
        print_checksum(entry, received, messages)
        yield received.path.rename(work / f"{name}.pth")

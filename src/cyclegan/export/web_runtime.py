"""The files of onnxruntime-web that a web page needs: from the npm registry once, or from a place on this machine."""

import base64
import hashlib
import os
import re
import tarfile
from pathlib import Path

from platformdirs import user_cache_path

from cyclegan.datasets.fetching import Patience, check_mirror, fetch, workplace
from cyclegan.errors import DownloadError, InputError
from cyclegan.system.atomic import atomic_path, remove_folder
from cyclegan.system.messages import Messages

NAME, VERSION = "onnxruntime-web", "1.30.0"
LICENCE = """MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""

_REGISTRY = "https://registry.npmjs.org"
_VARIABLE = "NPM_CONFIG_REGISTRY"  # npm takes it in small letters, too

# The package as the registry describes it: `npm view onnxruntime-web@1.30.0 dist`.
_NUM_BYTES = 33_106_585
_SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
_SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="

# Of its 150 MB: WebAssembly (wasm), and WebAssembly with WebGPU (webgpu, asyncify). A browser loads one of the two.
FILES = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    "ort.webgpu.min.mjs": "3dffff71811bc13a3a3d9591c57ca5ee5735b8f5f3eaf789510b02bb040ae3a0",
    "ort-wasm-simd-threaded.asyncify.mjs": "3d1c85995364bb643302fc6fd877a0c3ba5ae72401815e0f24828a53d9191e28",
    "ort-wasm-simd-threaded.asyncify.wasm": "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
}

# Where these files are in an unpacked package, in a folder that holds one, and in a project that npm has installed it
# into.
_PLACES = ("dist", ".", "package/dist", f"node_modules/{NAME}/dist")


def read_runtime(place: Path | None = None, messages: Messages | None = None) -> dict[str, bytes]:
    """The content of FILES by name, each with the SHA-256 that is known.

    place: a folder with the package, or its tarball; default: the cache, which is filled from the npm registry (that of
    the environment variable NPM_CONFIG_REGISTRY, if it is set). Raises InputError if other files are there, and
    DownloadError if the registry cannot be reached.
    """
    if place is not None:
        return _from_folder(place) if place.is_dir() else _from_tarball(place)
    cache = user_cache_path("cyclegan", appauthor=False) / f"{NAME}-{VERSION}"
    if cache.is_dir():
        try:
            return _from_folder(cache)
        except InputError:  # damaged, so it is made again
            remove_folder(cache)
    return _download(cache, messages or Messages("export"))


def _download(cache: Path, messages: Messages) -> dict[str, bytes]:
    registry = next((value for name, value in os.environ.items() if value and name.upper() == _VARIABLE), _REGISTRY)
    try:
        registry = check_mirror(registry)
    except InputError:
        raise InputError(
            f"The environment variable {_VARIABLE} is {registry!r}; expected an address such as {_REGISTRY}, without a "
            "user name."
        ) from None
    with workplace(cache, NAME, messages) as work:
        messages.info(f"Downloading {NAME} {VERSION} from {registry}, once for this machine.")
        try:
            received = fetch(
                f"{registry}/{NAME}/-/{NAME}-{VERSION}.tgz",
                work,
                begins=(b"\x1f\x8b",),
                num_bytes=_NUM_BYTES,
                sha256=_SHA256,
                patience=Patience(tries=3),
                messages=messages,
            )
        except DownloadError as error:
            reason = re.split(r"[;.] |, so ", str(error))[0].removesuffix(".")  # without a remedy of other downloads
            raise DownloadError(
                f"{NAME} {VERSION}, which the page runs on, could not be downloaded: {reason}. Connect to the internet "
                f"once, or give --runtime with its folder or {NAME}-{VERSION}.tgz (npm pack {NAME}@{VERSION} gets it)."
            ) from None
        try:
            files = _from_tarball(received.path)
        finally:
            received.path.unlink()
        with atomic_path(cache) as folder:
            folder.mkdir()
            for name, content in files.items():
                (folder / name).write_bytes(content)
    return files


def _from_tarball(path: Path) -> dict[str, bytes]:
    """The files of the package as npm packs it, and no other: it has one SHA-512."""
    try:
        with path.open("rb") as file:
            is_known = os.fstat(file.fileno()).st_size == _NUM_BYTES
            digest = hashlib.file_digest(file, "sha512").digest() if is_known else b""
            if base64.b64encode(digest).decode() != _SHA512:
                raise InputError(
                    f"{path} is not {NAME}-{VERSION}.tgz of the npm registry; npm pack {NAME}@{VERSION} gets it."
                )
            file.seek(0)
            with tarfile.open(fileobj=file) as archive:
                found = {name: archive.extractfile(f"package/dist/{name}") for name in FILES}
                return {name: member.read() for name, member in found.items() if member is not None}
    except FileNotFoundError:
        raise InputError(
            f"There is no {path}; expected a folder with {NAME} {VERSION}, or {NAME}-{VERSION}.tgz."
        ) from None


def _from_folder(folder: Path) -> dict[str, bytes]:
    first = next(iter(FILES))
    dist = next((folder / place for place in _PLACES if (folder / place / first).is_file()), None)
    if dist is None:
        raise InputError(f"{folder} holds no {first}; expected the folder of {NAME} {VERSION}.")
    files: dict[str, bytes] = {}
    for name, digest in FILES.items():
        path = dist / name
        files[name] = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise InputError(
                f"{path} is not that of {NAME} {VERSION}; give the folder of that version, or leave --runtime out."
            )
    return files

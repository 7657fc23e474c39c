"""Standard FID and KID on Inception features, by the tools that define them, where a user has one and its weights.

The tools are called on the folders themselves, so the numbers are those that they print on the same folders.
"""

import importlib
from pathlib import Path
from typing import Any

import torch

from cyclegan.errors import InputError
from cyclegan.images.file_list import list_images

TOOLS = ("torch-fidelity", "clean-fid")

_PACKAGES = {"torch-fidelity": "torch_fidelity", "clean-fid": "cleanfid"}

# Files that the tools take for images: torch-fidelity directly in the folder, clean-fid below it, too.
_SUFFIXES = {
    "torch-fidelity": (".png", ".jpg", ".jpeg"),
    "clean-fid": (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".npy"),
}


def check_inception(tool: str, weights: Path | None, folders: tuple[Path, ...]) -> None:
    """Raises InputError for what can be known beforehand: tool, weights, and files that the tool would not see."""
    if tool not in TOOLS:
        raise InputError(f"There is no tool {tool!r} for Inception scores; choose one of: {', '.join(TOOLS)}.")
    if weights is not None and tool == "clean-fid":
        raise InputError("clean-fid takes its Inception weights from its own place; leave out --inception-weights.")
    if weights is not None and not weights.is_file():
        raise InputError(f"There is no file {weights}; expected the Inception weights of torch-fidelity.")
    try:
        importlib.import_module(_PACKAGES[tool])
    except Exception as error:
        raise _unavailable(tool, ImportError(str(error))) from error
    for folder in folders:
        _check_seen(tool, folder)


def inception_scores(
    tool: str, generated: Path, real: Path, device: torch.device, weights: Path | None = None
) -> tuple[float, float, str]:
    """FID and KID of two folders, and how the tool was called.

    weights: the Inception weights of torch-fidelity; without them each tool looks where it keeps its own, and downloads
    what is not there. Raises InputError if the tool or its weights cannot be had, or if it would not see every file.
    """
    check_inception(tool, weights, (generated, real))
    count = min(len(list_images(generated)), len(list_images(real)))
    if tool == "torch-fidelity":
        arguments: dict[str, Any] = {"kid_subset_size": min(1000, count)}
        if weights is not None:
            arguments["feature_extractor_weights_path"] = str(weights)
        try:
            from torch_fidelity import calculate_metrics

            found = calculate_metrics(
                input1=str(generated),
                input2=str(real),
                fid=True,
                kid=True,
                cuda=device.type == "cuda",
                verbose=False,
                **arguments,
            )
        except Exception as error:
            raise _unavailable(tool, error) from error
        fid, kid = found["frechet_inception_distance"], found["kernel_inception_distance_mean"]
        return float(fid), float(kid), f"torch-fidelity, KID subsets of {arguments['kid_subset_size']}"

    try:
        from cleanfid import fid as clean

        options: dict[str, Any] = {"mode": "clean", "num_workers": 0, "device": device, "verbose": False}
        fid = clean.compute_fid(str(generated), str(real), use_dataparallel=False, **options)
        kid = clean.compute_kid(str(generated), str(real), use_dataparallel=False, **options)
    except Exception as error:
        raise _unavailable(tool, error) from error
    return float(fid), float(kid), "clean-fid, mode clean, KID of random subsets"


def _check_seen(tool: str, folder: Path) -> None:
    suffixes = _SUFFIXES[tool]
    unseen = [path for path in list_images(folder) if path.suffix.lower() not in suffixes]
    if tool == "torch-fidelity":
        unseen += [path for path in list_images(folder) if path.parent != folder and path not in unseen]
    if unseen:
        where = " directly in a folder" if tool == "torch-fidelity" else ""
        raise InputError(
            f"{tool} would pass over {len(unseen)} images of {folder}, such as {unseen[0].name}: it reads "
            f"{' '.join(suffixes)}{where}. Convert them, or use the other tool."
        )


def _unavailable(tool: str, error: Exception) -> InputError:
    if isinstance(error, InputError):
        return error
    if isinstance(error, ImportError):
        return InputError(
            f"Inception scores were asked for, but {tool} cannot be imported ({error}): pip install {tool}"
        )
    return InputError(
        f"{tool} could not score the folders: {str(error).splitlines()[0] if str(error) else type(error).__name__}. "
        "Without a network connection it needs its weights on disk (--inception-weights for torch-fidelity); "
        "leave out --inception for the scores that need none."
    )

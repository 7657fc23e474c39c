"""Standard FID and KID on Inception features, by the tools that define them, for users who have one and its weights.

The tools are called on the folders themselves, so the numbers are those that they print on the same folders.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch

from cyclegan.errors import InputError
from cyclegan.images.file_list import list_images

# FID, KID, and how the tool was called.
InceptionScores = tuple[float, float, str]


def _torch_fidelity(generated: Path, real: Path, device: torch.device, weights: Path | None) -> InceptionScores:
    from torch_fidelity import calculate_metrics

    subset = min(1000, len(list_images(generated)), len(list_images(real)))
    found = calculate_metrics(
        input1=str(generated),
        input2=str(real),
        fid=True,
        kid=True,
        kid_subset_size=subset,
        cuda=device.type == "cuda",
        verbose=False,
        **({"feature_extractor_weights_path": str(weights)} if weights is not None else {}),
    )
    fid, kid = found["frechet_inception_distance"], found["kernel_inception_distance_mean"]
    return float(fid), float(kid), f"torch-fidelity, KID subsets of {subset}"


def _clean_fid(generated: Path, real: Path, device: torch.device, _: Path | None) -> InceptionScores:
    from cleanfid import fid as clean

    fid, kid = (
        compute(
            str(generated), str(real), mode="clean", num_workers=0, device=device, use_dataparallel=False, verbose=False
        )
        for compute in (clean.compute_fid, clean.compute_kid)
    )
    return float(fid), float(kid), "clean-fid, mode clean, KID of random subsets"


@dataclass(frozen=True)
class _Tool:
    """suffixes: files that it takes for images. nested: whether it reads subfolders."""

    package: str
    suffixes: tuple[str, ...]
    nested: bool
    score: Callable[[Path, Path, torch.device, Path | None], InceptionScores]


TOOLS = {
    "torch-fidelity": _Tool("torch_fidelity", (".png", ".jpg", ".jpeg"), False, _torch_fidelity),
    "clean-fid": _Tool(
        "cleanfid", (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".npy"), True, _clean_fid
    ),
}


def check_inception(tool: str, weights: Path | None, folders: tuple[Path, ...]) -> None:
    """Raises InputError for an unknown or missing tool, missing weights, and files that the tool would skip."""
    if tool not in TOOLS:
        raise InputError(f"There is no tool {tool!r} for Inception scores; choose one of: {', '.join(TOOLS)}.")
    if weights is not None and tool == "clean-fid":
        raise InputError("clean-fid finds its Inception weights itself; leave out --inception-weights.")
    if weights is not None and not weights.is_file():
        raise InputError(f"There is no file {weights}; expected the Inception weights of torch-fidelity.")
    try:
        import_module(TOOLS[tool].package)
    except Exception as error:
        raise InputError(
            f"Inception scores were asked for, but {tool} cannot be imported ({error}): pip install {tool}"
        ) from error
    suffixes, nested = TOOLS[tool].suffixes, TOOLS[tool].nested
    for folder in folders:
        unseen = [
            path
            for path in list_images(folder)
            if path.suffix.lower() not in suffixes or not (nested or path.parent == folder)
        ]
        if unseen:
            where = "" if nested else " directly in a folder"
            raise InputError(
                f"{tool} would skip {len(unseen)} images of {folder}, such as {unseen[0].name}: it reads "
                f"{' '.join(suffixes)}{where}. Convert them, or use the other tool."
            )


def inception_scores(
    tool: str, generated: Path, real: Path, device: torch.device, weights: Path | None = None
) -> InceptionScores:
    """FID and KID of two folders, and how the tool was called.

    weights: the Inception weights of torch-fidelity; without them each tool uses its own, or downloads them. Raises
    InputError if the tool fails, or would not read every file.
    """
    check_inception(tool, weights, (generated, real))
    try:
        return TOOLS[tool].score(generated, real, device, weights)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{tool} could not score the folders: {reason}. Without a network connection it needs its weights on disk "
            "(--inception-weights for torch-fidelity); leave out --inception for the scores that need none."
        ) from error

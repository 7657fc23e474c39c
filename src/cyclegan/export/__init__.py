"""Export models for other programs: one module for each kind of format."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cyclegan.errors import InputError
from cyclegan.export.bioimageio_format import export_bioimageio
from cyclegan.export.graph_formats import PRECISIONS, export_graphs
from cyclegan.export.model_format import export_directory
from cyclegan.export.reference_format import export_reference
from cyclegan.export.web_format import WebOptions, export_web
from cyclegan.storage.model import find_model, read_info
from cyclegan.system.arguments import check_choice, check_path
from cyclegan.system.host_state import host_state
from cyclegan.system.json_files import shown

__all__ = ["FORMATS", "Exported", "WebOptions", "export_model"]

FORMATS = ("model", "reference", *PRECISIONS, "bioimageio")


@dataclass(frozen=True)
class Exported:
    """files: all that were written. notes: sentences for the user."""

    files: tuple[Path, ...]
    notes: tuple[str, ...]


@host_state()
def export_model(
    path: str | Path,
    out: str | Path,
    *,
    format: str,
    direction: Literal["a2b", "b2a", "both"] = "both",
    weights: Literal["final", "average"] | None = None,
    precision: Literal["fp32", "fp16", "bf16", "int8"] | None = None,
    calibrate: str | Path | None = None,
    web: WebOptions | None = None,
    authors: Sequence[str] | None = None,
    licence: str | None = None,
    say: Callable[[str], None] = warnings.warn,
) -> Exported:
    """Write the model of a run directory, a checkpoint or a model directory into the folder `out`, for another program.

    format: one of FORMATS. direction: a2b, b2a, or both (those that the model has). weights: final or average;
    default: those that the model was configured for. precision: arithmetic of the graphs of onnx, openvino and
    torch-export, type of the weights of a model directory and of a web page; default: fp32, for a page fp16. calibrate:
    for int8, a folder of images of the input domain, or one that holds trainA and trainB; default: the images that the
    run was trained on. web: what the page of format web shows and is made of. authors, licence: for bioimageio, names
    of persons and the SPDX identifier of the licence of the weights. say: called with a warning before the work if this
    CPU makes it slow.
    Returns the files and notes for the user. Graphs are compared with torch before they are put into place.
    Raises InputError if there is no such model, the format cannot hold it, a file already exists, this CPU cannot
    check the precision, or the graph does not agree with the network.
    """
    path, out = check_path("path", path), check_path("out", out)
    if not isinstance(format, str) or format not in FORMATS:
        raise InputError(f"There is no format {shown(format)}; choose one of: {', '.join(FORMATS)}.")
    check_choice("direction", direction, ("a2b", "b2a", "both"))
    if weights is not None:
        check_choice("weights", weights, ("final", "average"))
    precision = precision or ("fp16" if format == "web" else "fp32")
    check_choice("precision", precision, ("fp32", "fp16", "bf16", "int8"))
    if web is not None and (format != "web" or not isinstance(web, WebOptions)):
        raise InputError(f"web is {shown(web)}; expected WebOptions, for format web.")
    images = None if calibrate is None else check_path("calibrate", calibrate)
    if calibrate is not None and precision != "int8":
        raise InputError("calibrate is for precision int8; give both.")
    if (authors is not None or licence is not None) and format != "bioimageio":
        raise InputError(f"author and licence are for format bioimageio, and format is {format}; leave them out.")
    model = find_model(path)
    directions = read_info(model).directions if direction == "both" else (direction,)
    if format == "model":
        files, notes = export_directory(model, out, directions, weights, precision)
    elif format == "reference":
        if precision != "fp32":
            raise InputError(f"The reference keeps its weights in fp32, and precision is {precision}; leave it out.")
        files, notes = export_reference(model, out, directions, weights)
    elif format == "web":
        options = web or WebOptions()
        files, notes = export_web(model, out, directions, weights, precision, path, images, say, options)
    elif format == "bioimageio":
        files, notes = export_bioimageio(model, out, directions, weights, precision, path, authors, licence)
    else:
        files, notes = export_graphs(model, out, format, directions, weights, precision, path, images, say)
    return Exported(tuple(files), tuple(notes))

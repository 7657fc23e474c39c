"""What the Translate page asks for beside translations: the models, and pixels of files that browsers cannot show."""

import io
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from cyclegan.config import Direction
from cyclegan.images import Array
from cyclegan.images.by_content import suffix_by_content
from cyclegan.images.codecs import read_raster
from cyclegan.images.file_formats import can_hold, image_suffixes
from cyclegan.images.formats import ImageFormat
from cyclegan.images.limits import pixel_limit
from cyclegan.images.raster import cast
from cyclegan.images.resizing import resize, resize_mask
from cyclegan.serving.picture import FORMATS
from cyclegan.serving.problems import Problem, of_upload
from cyclegan.serving.service import Service
from cyclegan.serving.uploads import Receiver, upload_file
from cyclegan.studio.json_routes import Json
from cyclegan.studio.models import FoundModel, ModelFinder
from cyclegan.system.advice import flags_of_command

# Types that the page offers to save as, by their names there.
_SAVED = {"png": ".png", "jpeg": ".jpg", "tiff": ".tif", "npy": ".npy"}

# What a page can read of the numpy types; the others become the next larger one of these.
_SHOWN = {"float16": "float32", "int64": "float64", "uint64": "float64"}


def translate_router(runs_dir: Path, finder: ModelFinder, service: Service) -> APIRouter:
    """The routes `/api/models` and `/api/pixels`."""
    router = APIRouter(prefix="/api", tags=["translate"], default_response_class=Json)
    receiver = Receiver(service.settings.max_body)

    @router.get("/models")
    def list_models() -> dict[str, Any]:
        """The models as they are now; those that cannot be used with the reason; suffixes of image files."""
        found = finder.find()
        usable = [model for model in found if model.problem is None]
        service.store.refresh({model.name: model.path for model in usable})
        return {
            "folder": str(runs_dir),
            "models": [_described(model) | {"is_example": not _is_below(model.path, runs_dir)} for model in usable],
            "damaged": [{"title": model.title, "reason": model.problem} for model in found if model.problem],
            "suffixes": sorted(image_suffixes()),
        }

    @router.post("/pixels/{name}/{direction}/{side}", response_class=Response)
    async def show_pixels(
        request: Request,
        name: str,
        direction: Direction,
        side: Literal["source", "target"],
        most: Annotated[int, Query(alias="side", ge=1, le=2**16)] = 4096,
    ) -> Response:
        """An image as a model reads it, or as it comes out of one, as .npy with a longer side of at most `side`.

        The header Cyclegan-Size has the width and height of the file. Pixels without a value are NaN if they can be.
        """
        found = await run_in_threadpool(finder.find)
        model = next((model for model in found if model.name == name), None)
        if model is None or direction not in model.formats:
            raise Problem(404, f"There is no model {name[:200]!r} with the direction {direction}.")
        image_format = model.formats[direction][0 if side == "source" else 1]
        max_pixels = service.settings.max_pixels
        async with receiver.receiving(request.receive, dict(request.headers)) as content:
            values, (height, width) = await service.in_pool(_read, content, image_format, most, max_pixels)
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(values), allow_pickle=False)
        size = {"Cyclegan-Size": f"{width}x{height}"}
        return Response(buffer.getvalue(), media_type="application/x-npy", headers=size)

    return router


def _described(model: FoundModel) -> dict[str, Any]:
    directions = {
        direction: {"source": _side(source), "target": _side(target)}
        for direction, (source, target) in model.formats.items()
    }
    about = {"name": model.name, "title": model.title, "version": model.version, "domains": model.domains}
    return about | {"directions": directions}


def _is_below(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def _side(images: ImageFormat) -> dict[str, Any]:
    """What images hold, and which of the types that the page saves keep it."""
    types = [name for name, suffix in _SAVED.items() if can_hold(suffix, images.channels, images.dtype, images.alpha)]
    about = images.model_dump(include={"channels", "dtype", "low", "high"})
    return {**about, "alpha": images.last_is_alpha, "types": types}


def _read(content: bytearray, image_format: ImageFormat, most: int, max_pixels: int) -> tuple[Array, tuple[int, int]]:
    """The values of a file, made smaller if need be, and its height and width. Raises Problem."""
    with upload_file(content) as path, flags_of_command(()), pixel_limit(max_pixels), of_upload(str(path.parent)):
        suffix = suffix_by_content(path, FORMATS)
        if not suffix:
            raise Problem(415, "The file is not an image of a known type, or it is damaged.")
        raster = read_raster(path.rename(path.with_suffix(suffix)), image_format)
    values, valid = raster.values, raster.valid
    size = height, width = values.shape[:2]
    if max(size) > most:
        height, width = (max(1, round(side * most / max(size))) for side in size)
        values = cast(resize(values, height, width), values.dtype.name)
        valid = None if valid is None else resize_mask(valid, height, width)
    dtype = _SHOWN.get(values.dtype.name, values.dtype.name)
    values = values.astype(dtype, copy=False)
    if valid is not None and values.dtype.kind == "f":
        values = np.where(valid[..., None], values, np.nan).astype(dtype)
    return values, (size[0], size[1])

"""Georeferenced files for tests, written by rasterio as people's tools write them."""

import numpy as np
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC
from rasterio.transform import Affine

UTM = "EPSG:32632"
NORTH_UP = Affine(10, 0, 500_000, 0, -10, 5_000_000)
ROTATED = Affine(8, 6, 500_000, 6, -8, 5_000_000)
POINTS = [GroundControlPoint(row, col, 10 + col / 100, 50 - row / 100, 0) for row, col in [(0, 0), (0, 40), (30, 0)]]


def make_rpc():
    coefficients = [1.0, *[0.0] * 19]
    return RPC(
        **{f"{name}_{part}_coeff": coefficients for name in ("line", "samp") for part in ("num", "den")},
        **dict.fromkeys(("height_off", "lat_off", "long_off"), 5.0),
        **dict.fromkeys(("height_scale", "lat_scale", "long_scale", "line_scale", "samp_scale"), 2.0),
        **{"line_off": 30.0, "samp_off": 20.0, "err_bias": None, "err_rand": None},
    )


def smooth(height=40, width=56, channels=3, dtype="uint8", high=255):
    """Smooth values (H, W, C) from about a tenth to nine tenths of `high`."""
    y, x = np.mgrid[:height, :width]
    planes = [np.sin(x / (7 + k)) * np.cos(y / (9 - k)) for k in range(channels)]
    return ((np.stack(planes, -1) * 0.4 + 0.5) * high).astype(dtype)


def write_geotiff(path, values=None, *, place="north", names=(), tags=None, mask=None, interp=None, **options):
    """Write (H, W, C) as a GeoTIFF in UTM. place: north, rotated, gcps, rpcs, or an affine transform."""
    values = smooth() if values is None else values
    height, width, count = values.shape
    where = {"crs": UTM, "transform": {"north": NORTH_UP, "rotated": ROTATED}.get(place, place)}
    if place == "gcps":
        where = {"gcps": POINTS, "crs": "EPSG:4326"}
    elif place in ("rpcs", None):
        where = {}
    options = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": values.dtype} | options
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **{**where, **options}) as file:
        for band in range(count):
            file.write(values[..., band], band + 1)
        if names:
            file.descriptions = names
        if interp:
            file.colorinterp = interp
        if place == "rpcs":
            file.rpcs = make_rpc()
        file.update_tags(**(tags or {}))
        if mask is not None:
            file.write_mask(mask)
    return path


def place_of(path):
    """Everything that says where an image lies."""
    with rasterio.open(path) as file:
        gcps, gcps_crs = file.gcps
        points = [(gcp.row, gcp.col, gcp.x, gcp.y) for gcp in gcps]
        rpcs = file.rpcs.to_dict() if file.rpcs else None
        area = file.tags().get("AREA_OR_POINT")
        return file.crs, file.transform, file.bounds, file.shape, points, gcps_crs, rpcs, area

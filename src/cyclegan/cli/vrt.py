"""`cyclegan vrt`."""

import argparse
from functools import partial
from pathlib import Path

from cyclegan.cli.arguments import add_argument

SUMMARY = "Write one VRT of a scene whose bands are single files, or of several scenes."

EXAMPLES = """examples:
  cyclegan vrt S2A_MSIL2A_20200101.SAFE/ --bands B04,B03,B02,B08 --out scene.vrt
  cyclegan vrt LC08_20200101/ --bands B4,B3,B2 --nodata 0 --out scene.vrt
  cyclegan vrt tiles/ --out region.vrt                     (scenes beside each other become one image)
  cyclegan vrt red.tif nir.tif --out two.vrt

No pixel is copied: a VRT is a small text that GDAL, QGIS and all commands read as one image. Needs cyclegan[geo]."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = partial(add_argument, parser)
    add("paths", Path, "Folder of a scene or of several, or files.", metavar="INPUT", nargs="+")
    add("--out", Path, "VRT to write.", metavar="FILE.vrt", required=True)
    bands_help = (
        "Bands in their order, by descriptions or parts of file names (default: all, in order of the file names)."
    )
    add("--bands", str, bands_help, metavar="NAME,NAME,...")
    add("--nodata", float, "Number that marks holes (default: that of the files).", metavar="VALUE")


def run(parsed: argparse.Namespace) -> None:
    from cyclegan.images.filetypes.vrt import write_vrt
    from cyclegan.system.messages import Messages
    from cyclegan.system.terminal import print_result
    from cyclegan.system.words import counted

    bands = [name.strip() for name in parsed.bands.split(",") if name.strip()] if parsed.bands else None
    stacked = write_vrt(parsed.paths, parsed.out, bands=bands, nodata=parsed.nodata)
    messages = Messages("vrt")
    for note in stacked.notes:
        messages.info(note)
    files = counted(stacked.num_files, "file")
    names = ", ".join(name or "unnamed" for name in stacked.bands)
    messages.info(f"{stacked.width}x{stacked.height} pixels, {len(stacked.bands)} bands of {files}: {names}")
    print_result(stacked.path)

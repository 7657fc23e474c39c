"""`cyclegan tiles`."""

import argparse
from dataclasses import fields
from functools import partial
from pathlib import Path

from cyclegan.cli.arguments import add_argument

SUMMARY = "Cut tiles for training from whole slides, by tissue and not by glass."

EXAMPLES = """examples:
  cyclegan tiles slides_a/ --out tiles_a/
  cyclegan tiles slides_a/ --out tiles_a/ --mpp 0.25 --size 256 --max-tiles 500
  cyclegan tiles slide.svs --out tiles/ --level 1 --tissue 0.8
  cyclegan train tiles_a/ tiles_b/ --out runs/stain

Each slide gets a folder of tiles below OUT. OUT/tiles.csv lists all of them with their place on the slide; the folder
OUT_overview has a picture of each slide that shows which tiles were taken. The same command resumes one that was
stopped, and adds new slides."""

# Slides that are left out and listed by name.
_MAX_NAMED = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = partial(add_argument, parser)
    slides_help = "Slides that OpenSlide reads (.svs .ndpi .mrxs .scn .tif .dcm ...), or folders of them."
    add("paths", Path, slides_help, metavar="SLIDE", nargs="+")
    add("--out", Path, "Folder for the tiles.", required=True)
    add("--size", int, "Side of a tile", 512, metavar="PIXELS")
    mpp_help = "Microns per pixel of the tiles; 0.5 is a 20x scan, 0.25 a 40x scan (default: 0.5)."
    add("--mpp", float, mpp_help, metavar="MICRONS")
    add("--level", int, "Level of the slide's pyramid, from 0 on, instead of --mpp.")
    add("--tissue", float, "Smallest share of a tile that is tissue, 0 to 1", 0.5, metavar="SHARE")
    add("--max-tiles", int, "Tiles of one slide, spread evenly over its tissue; 0: all", 1000, metavar="COUNT")
    add("--suffix", (".png", ".jpg"), "Format of the tiles; .jpg has quality 95", ".png")


def run(parsed: argparse.Namespace) -> None:
    from cyclegan.datasets.slide_tiles import TileOptions, cut_tiles
    from cyclegan.system.messages import Messages
    from cyclegan.system.progress import show_time_left
    from cyclegan.system.terminal import say_result

    given = {field.name: getattr(parsed, field.name) for field in fields(TileOptions)}
    options = TileOptions(**given | {"max_tiles": None if parsed.max_tiles == 0 else parsed.max_tiles})
    options.check(lambda field: f"--{field.replace('_', '-')}")
    messages = Messages("tiles")
    try:
        with show_time_left(messages.console, "tiles") as on_progress:

            def on_tile(slide: Path, done: int, count: int) -> None:
                on_progress(f"{slide.name}, {done} of {count}", done / max(count, 1))

            cut = cut_tiles(parsed.paths, parsed.out, options, on_tile=on_tile)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("Stopped; tiles that are done are kept, and the same command continues.") from stop
    for slide, reason in cut.skipped[:_MAX_NAMED]:
        messages.warning(f"Left out: {'' if reason.startswith(str(slide)) else f'{slide}: '}{reason}")
    if len(cut.skipped) > _MAX_NAMED:
        messages.warning(f"Left out: {len(cut.skipped) - _MAX_NAMED} more slides.")
    for folder, plan in cut.plans.items():
        if not plan.tiles:
            messages.warning(f"{plan.slide}: no tile has enough tissue; see {cut.overviews}, or lower --tissue.")
        else:
            microns = "" if plan.mpp is None else f", {plan.mpp:.4g} microns per pixel"
            messages.info(f"{folder}: {len(plan.tiles)} of {plan.num_found} tiles with tissue{microns}")
    num_tiles = sum(len(plan.tiles) for plan in cut.plans.values())
    if cut.plans:
        say_result(f"{num_tiles} tiles of {len(cut.plans)} slides in {cut.out}; pictures of them in {cut.overviews}")
    if cut.skipped or not num_tiles:
        raise SystemExit(1)

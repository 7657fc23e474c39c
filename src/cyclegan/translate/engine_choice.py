"""`--engine auto`: the fastest engine that is installed, where there is enough work to make it ready.

Another engine takes seconds to export and compile a model, and gives results that differ from those of torch by
rounding. So it must save a part of the whole time, and without an earlier trial on this machine the work must take
minutes.
"""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field, TypeAdapter
from torch import Tensor

from cyclegan.errors import InputError
from cyclegan.images.file_list import evenly_spaced
from cyclegan.images.headers import image_size
from cyclegan.system.trials import recall, remember, trial_file, trial_key
from cyclegan.translate.engines import Engine, installed_version, psnr, smooth_picture
from cyclegan.translate.engines.registry import AUTO_DB, ENGINES
from cyclegan.translate.engines.with_torch import open_torch
from cyclegan.translate.options import TranslateOptions
from cyclegan.translate.plan import TranslationPlan
from cyclegan.translate.translator import Translator

# Fewer images are translated with torch, without reading their headers.
FEWEST_IMAGES = 16

# Seconds of work in torch that are worth a trial, which takes about twenty, once for a machine and a kind of model.
WORTH_TRYING = 120.0

# How much faster all of the work must be: less is not worth results that differ from those of torch.
LEAST_GAIN = 1.1

# A trial calls the engines so often, if it does not take more than these seconds.
_MOST_ROUNDS, _TRIAL_SECONDS = 20, 10.0

# Files whose headers are read to know the size of the images.
_NUM_HEADERS = 32

# Larger images hardly fit into memory as a whole.
_MOST_PIXELS = 2**25

# Sides at which engines are timed; larger images take as long for each pixel.
_SIDES = (64, 128, 256)

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Timing:
    """Seconds until an engine is ready, and for one image."""

    ready: Seconds
    image: Annotated[Seconds, Field(gt=0)]


_TIMINGS = TypeAdapter(dict[str, Timing])


def choose_engine(
    translator: Translator,
    plan: TranslationPlan,
    options: TranslateOptions,
    *,
    on_note: Callable[[str], None] = lambda _: None,
    cache: Path | None = None,
) -> Translator:
    """The translator with the engine that translates the images of a plan in the least time: torch, or another one.

    It computes in the precision of the given engine, and keeps AUTO_DB to float32 on a test picture. Torch stays on a
    GPU, for results of more than 8 bits, for exports, for tiles, and for frames that are stabilised.
    plan: all images, also those whose results are there already or that another shard translates, so that the choice
    is the same. on_note: receives a sentence before a trial. cache: the file of earlier trials; default: engines.json
    in the user's cache folder.
    """
    engine, count = translator.engine, len(plan) // options.num_shards * len(translator.views)
    is_left_to_torch = options.stabilise or options.tile_side is not None or translator.target.dtype != "uint8"
    if engine.name != "torch" or engine.original is None or engine.device.type != "cpu" or is_left_to_torch:
        return translator
    if len(plan) // options.num_shards < FEWEST_IMAGES:
        return translator
    names = [name for name in ENGINES if name != "torch" and _can_compute(name, engine.precision)]
    pixels = _typical_pixels(plan, options) if names else 0.0
    if pixels == 0:
        return translator
    side = min(_SIDES, key=lambda side: abs(math.log(side * side / pixels)))
    num_images = count * pixels / side**2  # of this side
    cache, key = cache or trial_file("engines.json"), trial_key(_describe(translator, names, side))
    timings, opened = recall(cache, key, _TIMINGS), dict[str, Engine]()
    if timings is None or "torch" not in timings:
        small = _SIDES[0]  # which takes no time
        if count * pixels / small**2 * _seconds([engine], _picture(translator, small))[0] < WORTH_TRYING:
            return translator
        on_note("Trying which engine is the fastest here, once for this machine and such a model.")
        timings, opened = _try(translator, names, side)
        remember(cache, key, timings, _TIMINGS)
    known = [name for name in ("torch", *names) if name in timings]
    totals = {name: timings[name].ready + num_images * timings[name].image for name in known}
    name = min(totals, key=totals.__getitem__)
    if totals["torch"] < LEAST_GAIN * totals[name]:
        why = "no other engine saves a tenth of the time here"
        return _with(translator, replace(engine, reason=_and(engine.reason, why)))
    chosen = opened.get(name) or _open(translator, name)
    return translator if chosen is None else _if_close(translator, chosen, timings["torch"].image / timings[name].image)


def _if_close(translator: Translator, chosen: Engine, gain: float) -> Translator:
    """The translator with the chosen engine, if that is close to float32."""
    picture, engine = _picture(translator, 128), translator.engine
    exact = open_torch(translator.original, "fp32", engine.device)
    with torch.inference_mode():
        decibels = psnr(exact(picture), chosen(picture))
    if math.isnan(decibels) or decibels < AUTO_DB:
        why = f"{chosen.name} keeps only {decibels:.0f} dB of this model, less than {AUTO_DB:.0f}"
        return _with(translator, replace(engine, reason=_and(engine.reason, why)))
    why = f"{gain:.1f}x as fast as torch here; {decibels:.0f} dB to fp32 on a test picture"
    return _with(translator, replace(chosen, original=engine.original, reason=why))


def _with(translator: Translator, engine: Engine) -> Translator:
    twin = copy.copy(translator)
    twin.engine = engine
    return twin


def _and(reason: str, more: str) -> str:
    return f"{reason}; {more}" if reason else more


def _can_compute(name: str, precision: str) -> bool:
    info = ENGINES[name]
    is_there = installed_version(info.package) is not None and precision in info.precisions
    return is_there and info.can_compute(precision)


def _typical_pixels(plan: TranslationPlan, options: TranslateOptions) -> float:
    """Pixels that the network sees of an image, on average over some of the files; 0 if no header can be read.

    Larger images are left out, because torch translates them in tiles.
    """
    total, indices = 0.0, evenly_spaced(range(len(plan)), _NUM_HEADERS)
    for index in indices:
        if (size := image_size(plan.sources[index])) is not None and 0 not in size:
            short, width = options.short_side, options.scale_width
            factor = short / min(size) if short else width / size[1] if width else 1.0
            pixels = math.prod(size) * factor**2
            total += pixels if pixels <= _MOST_PIXELS else 0
    return total / len(indices)


def _describe(translator: Translator, names: Sequence[str], side: int) -> str:
    """What the speed of the engines depends on, beside the machine."""
    model, others = translator.info.model, ", ".join(f"{name} {installed_version(name)}" for name in names)
    settings = " ".join(f"{name}={value}" for name, value in model.generator_settings.items())
    kind = f"{model.generator} {translator.source.channels}-{translator.target.channels} {settings}"
    return f"{kind} {side}px {translator.engine.precision}, {others}"


def _picture(translator: Translator, side: int) -> Tensor:
    multiple, least = translator.info.model.multiple, translator.info.model.smallest_side
    return smooth_picture(translator.source.channels, -(-max(side, least) // multiple) * multiple)


def _open(translator: Translator, name: str) -> Engine | None:
    """An engine for the model; None if a package that it needs is missing, or it does not take such a network."""
    engine, multiple, channels = translator.engine, translator.info.model.multiple, translator.source.channels
    try:
        return ENGINES[name].open(translator.original, channels, multiple, engine.precision, engine.device)
    except (InputError, RuntimeError):
        return None


def _try(translator: Translator, names: Sequence[str], side: int) -> tuple[dict[str, Timing], dict[str, Engine]]:
    """Open all engines that work with this model, and time one image in each."""
    opened, ready = {"torch": translator.engine}, {"torch": 0.0}
    for name in names:
        began = time.perf_counter()
        if (found := _open(translator, name)) is not None:
            opened[name], ready[name] = found, time.perf_counter() - began
    seconds = _seconds(list(opened.values()), _picture(translator, side), _TRIAL_SECONDS)
    timings = {name: Timing(ready[name], image) for name, image in zip(opened, seconds, strict=True)}
    return timings, opened


def _seconds(engines: Sequence[Callable[[Tensor], Tensor]], picture: Tensor, seconds: float = 0.0) -> list[float]:
    """The least seconds of an image in each engine, in turn, after a call to warm up: other programs only add to it.

    seconds: of all calls together, for more than two of each.
    """
    best, until = [math.inf] * len(engines), time.perf_counter() + seconds
    with torch.inference_mode():
        for number in range(_MOST_ROUNDS):
            if number > 2 and time.perf_counter() > until:
                break
            for index, engine in enumerate(engines):
                began = time.perf_counter()
                engine(picture)
                if number:
                    best[index] = min(best[index], time.perf_counter() - began)
    return best

"""Put known changes into test images, and count how many of them the translations show."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from cyclegan.evaluation.direction import EvaluationContext
from cyclegan.evaluation.test_images import Advance, file_name
from cyclegan.images.drawing import mark_holes
from cyclegan.images.file_list import evenly_spaced
from cyclegan.report.probes import size_name
from cyclegan.storage.probe_rates import ProbeRate
from cyclegan.storage.showcase import ShowcaseImage
from cyclegan.translate.probes.making import KINDS
from cyclegan.translate.probes.rates import summarise
from cyclegan.translate.probes.response import Probed, ProbeResponse

# Test images that are probed, at equal distances in the list of files.
NUM_IMAGES = 32

# A change of this share of the range is white in the picture of what changed.
_WHITE = 0.25


def probe_direction(
    context: EvaluationContext, num_images: int, stage: Callable[[str, int], Advance]
) -> tuple[tuple[ProbeRate, ...], list[ShowcaseImage]]:
    """Rates over test images at equal distances, and pictures: for each kind of change one that is kept, one that is
    lost although a person sees it in the input, and one with an invention, as far as there are any.

    Each image has every kind, size and contrast once. The test images have been measured.
    """
    paths = evenly_spaced(context.source.paths, num_images)
    advance = stage(f"Probing {context.direction}", len(paths))
    images: list[list[ProbeResponse]] = []
    chosen: dict[tuple[str, str], tuple[float, ShowcaseImage]] = {}
    for number, path in enumerate(paths):
        image, mask = context.source.read(path)
        before: Tensor | None = None
        responses = []
        found = context.there.probe_tensor(image, mask, seed=context.seed, number=number, batch_size=context.batch_size)
        for probed in found:
            responses.append(probed.response)
            for slot, merit in _slots(probed.response):
                key = probed.response.kind, slot
                if key not in chosen or merit > chosen[key][0]:
                    before = context.there.translate_tensor(image[None])[0] if before is None else before
                    chosen[key] = merit, _example(context, path, image, mask, before, probed)
        images.append(responses)
        advance(1)
    shown = [chosen[kind, slot][1] for kind in KINDS for slot in ("kept", "lost", "invented") if (kind, slot) in chosen]
    return summarise(images), shown


def _slots(response: ProbeResponse) -> list[tuple[str, float]]:
    """What a response is an example of, and how good an example: the faintest that is kept, the strongest failures."""
    contrast = abs(response.contrast)
    slots = []
    if response.is_seen and response.outcome == "kept" and not response.invented:
        slots.append(("kept", -contrast))
    if response.is_seen and response.outcome != "kept":
        slots.append(("lost", contrast))
    if response.invented:
        slots.append(("invented", contrast))
    return slots


def _example(
    context: EvaluationContext, path: Path, image: Tensor, mask: Tensor | None, before: Tensor, probed: Probed
) -> ShowcaseImage:
    pictures = {
        "input": image,
        "probed": probed.probe.image,
        "output": before,
        "probed_output": probed.translation,
        "change": (probed.change[None] / _WHITE).clamp(0, 1) * 2 - 1,
    }
    return ShowcaseImage(
        context.direction,
        file_name(path, context.source.root),
        "probe",
        {name: mark_holes(picture, mask) for name, picture in pictures.items()},
        note=describe(probed.response),
    )


def describe(response: ProbeResponse) -> str:
    """A change and what became of it, in a few words."""
    words: list[str] = [response.kind]
    if response.kind != "brightness":
        words.append(f"{size_name(response.size)} of the side at {response.column}, {response.row}")
    words += [f"contrast {response.contrast:+.3f}", response.outcome]
    words += ["something else changed as well"] if response.invented else []
    return ", ".join(words)

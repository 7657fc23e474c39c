"""Standard FID and KID of one direction, computed by an external tool on folders of images."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from cyclegan.errors import InputError
from cyclegan.evaluation.direction import EvaluationContext
from cyclegan.evaluation.test_images import Advance, TestImages
from cyclegan.images.codecs import write_image
from cyclegan.images.tensors import from_tensor
from cyclegan.metrics.inception import inception_scores
from cyclegan.metrics.round_trip import fill
from cyclegan.storage.scores import Estimate, Score


def check_eight_bit(domains: tuple[TestImages, ...]) -> None:
    """Raises InputError for images that the tools cannot read."""
    for domain in domains:
        if domain.image_format.dtype != "uint8" or domain.image_format.channels != 3:
            raise InputError(
                f"Inception scores need 8-bit colour images; domain {domain.name} is {domain.image_format}."
            )


def score_inception(
    context: EvaluationContext,
    stage: Callable[[str, int], Advance],
    tool: str,
    weights: Path | None,
    folder: Path,
) -> dict[str, Score]:
    """FID and KID with their baselines. folder: where the translations are written for the tool.

    Raises InputError if the tool fails.
    """
    source, target, device = context.source, context.target, context.there.device
    _write_translations(context, folder, stage(f"Writing {context.direction}", len(source.paths)))
    fid, kid, how = inception_scores(tool, folder, target.root, device, weights)
    baselines = {"ceiling": inception_scores(tool, source.root, target.root, device, weights)}
    # The distances are biased: the baseline needs as many images as there are translations.
    if len(target.training_used) == len(source.paths):
        with TemporaryDirectory() as links:
            for number, path in enumerate(target.training_used):
                (Path(links) / f"{number:06d}{path.suffix}").symlink_to(path.resolve())
            baselines["floor"] = inception_scores(tool, Path(links), target.root, device, weights)
    return {
        name: Score(
            value=Estimate(value=value),
            floor=Estimate(value=baselines["floor"][index]) if "floor" in baselines else None,
            ceiling=Estimate(value=baselines["ceiling"][index]),
            num_images=len(source.paths),
            num_real=len(target.paths),
            note=f"{how}; holes count as the tool reads them" if source.with_holes or target.with_holes else how,
        )
        for index, (name, value) in enumerate((("fid", fid), ("kid_inception", kid)))
    }


def _write_translations(context: EvaluationContext, folder: Path, advance: Advance) -> None:
    """Write all translations as PNG directly in `folder`, in place of those of an earlier evaluation."""
    if folder.is_symlink():
        raise InputError(f"{folder} is a link, and expected there is a folder of this program; move it away.")
    for old in folder.glob("[0-9]" * 6 + ".png"):
        old.unlink()
    batches = context.source.batches(context.source.paths, context.batch_size)
    fakes = (fake for _, images, masks in batches for fake in fill(context.there.translate_tensor(images), masks))
    for number, fake in enumerate(fakes):
        write_image(folder / f"{number:06d}.png", from_tensor(fake, context.target.image_format))
        advance(1)

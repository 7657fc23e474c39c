"""Charts of the log of a run, and names for its domains and directions."""

from collections.abc import Iterator

from cyclegan.config import Direction, TrainConfig
from cyclegan.metrics.spectrum import SECTORS, WINDOW
from cyclegan.metrics.table import METRICS
from cyclegan.report.charts import Chart, Series
from cyclegan.report.record import RunRecord, inside, number, series
from cyclegan.step.terms import DISCRIMINATOR, TERMS
from cyclegan.storage.scores import BASELINES, Spectra

DIRECTIONS: tuple[Direction, ...] = ("a2b", "b2a")


def domain_names(config: TrainConfig | None) -> dict[str, str]:
    """Names of the domains: those of their folders if they differ, else A and B."""
    if config is None or config.a is None or config.b is None or config.a.name == config.b.name:
        return {"a": "A", "b": "B"}
    return {"a": f"{config.a.name} (A)", "b": f"{config.b.name} (B)"}


def arrow(direction: str, names: dict[str, str]) -> str:
    """`photos (A) to maps (B)`."""
    return f"{names[direction[0]]} to {names[direction[-1]]}"


def validation_charts(log: RunRecord, names: dict[str, str]) -> Iterator[Chart]:
    """Curves of the scores on validation images."""
    best = {"best": float(log.best["step"])} if log.best is not None else {}
    for direction in DIRECTIONS:
        kid = [series(log.scores, "KID", "directions", direction, "kid")]
        if not kid[0].steps:
            continue
        scale = {
            title: value
            for key, title in BASELINES.items()
            if (value := number(inside(log.validation, "directions", direction, key, "value"))) is not None
        }
        everything = [*kid[0].values, *scale.values()]
        wide = min(everything) > 0 and max(everything) > 30 * min(everything)
        yield Chart(f"KID ({log.features}), {arrow(direction, names)}", kid, lines=scale, marks=best, log=wide)
    for name, metric in METRICS.items():
        both = [series(log.scores, arrow(d, names), "directions", d, name) for d in DIRECTIONS]
        if metric.in_training and name != "kid" and any(one.steps for one in both):
            title = metric.label[:1].upper() + metric.label[1:]
            yield Chart(title, [one for one in both if one.steps], marks=best)


def spectrum_charts(spectra: Spectra, name: str) -> Iterator[Chart]:
    """The power of detail by its size, and what stands out of it. name: that of the direction."""
    axis = f"waves in {WINDOW} pixels ({WINDOW // 8}: of 8 pixels, {WINDOW // 2}: of 2)"

    def curve(label: str, values: tuple[float, ...]) -> Series:
        return Series(label, range(1, len(values) + 1), values)

    curves = [
        curve("translations", spectra.translations),
        curve(BASELINES["floor"], spectra.real),
        curve(BASELINES["ceiling"], spectra.input),
    ]
    yield Chart(f"Power of detail in dB, {name}", curves, axis=axis)
    by_direction = [curve(sector, values) for sector, values in zip(SECTORS, spectra.patterns, strict=False)]
    yield Chart(f"Patterns in dB beyond real images, by the direction of stripes, {name}", by_direction, axis=axis)


def loss_charts(log: RunRecord) -> Iterator[Chart]:
    # Terms that need the discriminators' scores come last, beside the losses of the discriminators themselves.
    terms = sorted(TERMS.values(), key=lambda term: "score" in term.needs)
    for loss in (*terms, DISCRIMINATOR):
        curves = [series(log.losses, words, name, smooth=True) for name, words in loss.names.items()]
        if any(curve.steps for curve in curves):
            yield Chart(f"{loss.label.capitalize()} losses", [curve for curve in curves if curve.steps])

"""The curves of a run, from its log, and what its domains and directions are called."""

from collections.abc import Iterator

from cyclegan.config import Direction, TrainConfig
from cyclegan.report.charts import Chart
from cyclegan.report.record import RunRecord, inside, number, series
from cyclegan.step.terms import DISCRIMINATOR, TERMS

DIRECTIONS: tuple[Direction, ...] = ("a2b", "b2a")


def domain_names(config: TrainConfig | None) -> dict[str, str]:
    """What the domains are called: by their folders where these have names of their own, else A and B."""
    if config is None or config.a is None or config.b is None or config.a.name == config.b.name:
        return {"a": "A", "b": "B"}
    return {"a": f"{config.a.name} (A)", "b": f"{config.b.name} (B)"}


def arrow(direction: str, names: dict[str, str]) -> str:
    """`photos (A) to maps (B)`."""
    return f"{names[direction[0]]} to {names[direction[-1]]}"


def validation_charts(log: RunRecord, names: dict[str, str]) -> Iterator[Chart]:
    best = {"best": float(log.best["step"])} if log.best is not None else {}
    for direction in DIRECTIONS:
        kid = [series(log.scores, "KID", "directions", direction, "kid")]
        if not kid[0].steps:
            continue
        scale = {
            words: value
            for words, end in (("real images", "floor"), ("untranslated", "ceiling"))
            if (value := number(inside(log.validation, "directions", direction, end, "value"))) is not None
        }
        everything = [*kid[0].values, *scale.values()]
        wide = min(everything) > 0 and max(everything) > 30 * min(everything)
        yield Chart(f"KID (EfficientNet-Lite0), {arrow(direction, names)}", kid, lines=scale, marks=best, log=wide)
    for name, title in (("cycle", "Cycle error"), ("edges", "Edges kept")):
        both = [series(log.scores, arrow(d, names), "directions", d, name) for d in DIRECTIONS]
        if any(one.steps for one in both):
            yield Chart(title, [one for one in both if one.steps], marks=best)


def loss_charts(log: RunRecord) -> Iterator[Chart]:
    # Terms that need the discriminators' scores come last, beside the losses of the discriminators themselves.
    terms = sorted(TERMS.values(), key=lambda term: "score" in term.needs)
    for loss in (*terms, DISCRIMINATOR):
        curves = [series(log.losses, words, name, smooth=True) for name, words in loss.names.items()]
        if any(curve.steps for curve in curves):
            yield Chart(f"{loss.label.capitalize()} losses", [curve for curve in curves if curve.steps])

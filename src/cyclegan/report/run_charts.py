"""Charts of the log of a run, and names for its domains and directions."""

from collections.abc import Iterator

from cyclegan.config import Direction, TrainConfig
from cyclegan.metrics.table import METRICS
from cyclegan.report.charts import Chart
from cyclegan.report.record import RunRecord, inside, number, series
from cyclegan.storage.scores import BASELINES

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


def loss_charts(log: RunRecord) -> Iterator[Chart]:
    """Curves of the losses, one chart for each pair of terms."""
    for title, terms in (
        ("Cycle losses", {"cycle_a": "A to B to A", "cycle_b": "B to A to B"}),
        ("Identity losses", {"identity_a": "A", "identity_b": "B"}),
        ("Contrastive losses", {"contrastive_a2b": "A to B", "contrastive_b2a": "B to A"}),
        ("Structure losses", {"structure_a2b": "A to B", "structure_b2a": "B to A"}),
        ("Adversarial losses of the generators", {"adversarial_a2b": "A to B", "adversarial_b2a": "B to A"}),
        ("Losses of the discriminators", {"discriminator_a": "of A", "discriminator_b": "of B"}),
    ):
        curves = [series(log.losses, label, term, smooth=True) for term, label in terms.items()]
        if any(curve.steps for curve in curves):
            yield Chart(title, [curve for curve in curves if curve.steps])

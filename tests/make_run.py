"""Run directories as training and evaluation leave them, with small pictures of one colour."""

import json

from PIL import Image

from cyclegan.config import TrainConfig, to_toml
from cyclegan.metrics.features import features_info
from cyclegan.storage.scores import DirectionScores, Estimate, FileList, ImageScores, Score, Scores

# Colours of input, output and truth of each example; all of them can be told apart.
COLOURS = [((255, 0, 0), (0, 0, 255), (0, 128, 0)), ((255, 255, 0), (0, 255, 255), (255, 0, 255))]
LOSSES = {
    **{"adversarial_a2b": 0.4, "adversarial_b2a": 0.5, "cycle_a": 2.0, "cycle_b": 1.5},
    **{"identity_a": 0.7, "identity_b": 0.8, "discriminator_a": 0.2, "discriminator_b": 0.3},
}


def make_run(run, *, kid=0.12, size=(24, 20), **scores):
    """A whole run; more arguments are fields of its scores."""
    (run / "samples").mkdir(parents=True)
    (run / "config.toml").write_text(to_toml(TrainConfig(a=run / "photos", b=run / "maps", out=run, steps=3000)))
    for step in range(0, 3001, 250):
        Image.new("RGB", (60, 40), (step % 256, 0, 0)).save(run / "samples" / f"step_{step:07d}.png")
    write_log(run, events(kid))
    make_scores(kid=kid, **scores).write(run / "scores.json")
    make_examples(run, size)
    return run


def write_log(run, lines):
    run.mkdir(exist_ok=True)
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def events(kid=0.12):
    """Two sessions, losses, three validations of which the second is the best, a warning and an unreadable file."""
    machine = {
        "time": "2026-11-23T08:00:00+00:00",
        "command": "cyclegan train photos maps",
        "device": "cpu (2 threads)",
    }
    machine |= {"cyclegan": "0.1.0", "torch": "2.13.0", "python": "3.11.7", "platform": "Linux", "precision": "bf16"}
    ends = {"floor": {"value": 0.001, "low": 0.0, "high": 0.002}, "ceiling": {"value": 0.9, "low": 0.8, "high": 1.0}}
    origin = {"origin": "held out of the training folders", "num_images": {"a": 50, "b": 50}}
    lines = [
        {"event": "session", "step": 0, **machine},
        {"event": "validation", "step": 0, **origin, "directions": {"a2b": ends, "b2a": ends}},
        {"event": "unreadable", "step": 0, "path": "photos/broken.png", "reason": "truncated"},
    ]
    for step in range(50, 3001, 50):
        pace = {"epoch": step / 100, "seconds": step * 0.1, "images_per_second": 20.0, "learning_rate": 2e-4}
        lines.append({"step": step, **pace, **LOSSES})
    for step, factor in ((1000, 2.0), (2000, 1.0), (3000, 1.5)):
        value = kid * factor
        of = {"kid": {"value": value, "low": value * 0.8, "high": value * 1.2}}
        of |= {"cycle": 0.08, "cycle_noisy": 0.1, "edges": 0.4}
        scores = {"seconds": step * 0.1, "kid": value, "best": step <= 2000, "directions": {"a2b": of, "b2a": of}}
        lines.append({"event": "scores", "step": step, **scores})
    lines.append({"event": "warning", "step": 2000, "check": "collapse", "message": "The translations are all alike."})
    lines.append({"event": "session", "step": 2000, **machine, "command": "cyclegan train photos maps --steps 3000"})
    return lines


def make_scores(*, kid=0.12, l1=0.2, ceiling=0.9, files=("0.png", "1.png"), **fields):
    metrics = {
        "kid": Score(
            value=Estimate(value=kid, low=kid * 0.8, high=kid * 1.2),
            floor=Estimate(value=0.001, low=0.0, high=0.002),
            ceiling=Estimate(value=ceiling, low=0.8, high=1.0),
            num_images=2,
            num_real=2,
        ),
        "l1": Score(value=Estimate(value=l1), mean_image=Estimate(value=0.31), num_images=2),
        "psnr": Score(value=Estimate(value=19.25), num_images=2, note="measured on whole images"),
    }
    images = tuple(ImageScores(file=file, scores={"l1": l1, "unlike": kid}) for file in files)
    direction = DirectionScores(metrics=metrics, images=images, notes=("2 test images are far too few.",))
    lists = {name: FileList(root=f"data/{name}", files=files) for name in ("test_a", "test_b")}
    given = {
        "seconds": 4.2,
        "peak_mib": 512.0,
        "step": 3000,
        "weights": "final",
        "paired": True,
        "short_side": None,
        "noise_sigma": 0.01,
        **fields,
    }
    return Scores(
        **{"cyclegan_version": "0.1.0", "torch_version": "2.13.0", "created": "2026-11-23T09:00:00+00:00"},
        **{"model": "runs/x", "device": "cpu", "features": features_info(), "seed": 0, "num_bootstrap": 1000},
        **{"command": "cyclegan evaluate runs/x", "files": lists, "directions": {"a2b": direction, "b2a": direction}},
        **given,
    )


def make_examples(run, size=(24, 20)):
    """Two examples of each direction, the best and the worst."""
    entries = []
    for direction in ("a2b", "b2a"):
        (run / "examples" / direction).mkdir(parents=True, exist_ok=True)
        for index, (kind, colours) in enumerate(zip(("best", "worst"), COLOURS, strict=True)):
            pictures = {}
            for name, colour in zip(("input", "output", "truth"), colours, strict=True):
                pictures[name] = f"{direction}/{index}_{name}.png"
                Image.new("RGB", size, colour).save(run / "examples" / pictures[name])
            score = {"score_name": "l1", "score": 0.1 + index}
            entries.append(
                {"direction": direction, "file": f"{index}.png", "kind": kind, **score, "pictures": pictures}
            )
    record = {"origin": "test folders", "examples": entries}
    (run / "examples" / "examples.json").write_text(json.dumps(record))

"""Quality of a preset: train on both variants of the earth data with several seeds, score the test tiles, sum up.

Every run trains and is scored in a process of its own. A run that is complete is not trained again, one that was
stopped goes on, and the results are written anew from all runs of the label after each run: the same command again
continues.

    python benchmarks/quality.py --minutes 30 --seeds 0 1 2 --jobs 2 --set crop_size=64 width=16 blocks=4
    python benchmarks/quality.py --steps 20 --seeds 0 --variants etopo1 --label trial --set crop_size=64 width=16
    python benchmarks/quality.py --steps 20000 --device cuda --label gpu-128 --set crop_size=128 blocks=6 precision=bf16
"""

import argparse
import json
import os
import platform
import re
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

from machine import describe_machine

from cyclegan.ahead import num_cores
from cyclegan.config import PRESETS, Config, InputError, flat_values, make_config
from cyclegan.datasets import EARTH_VARIANTS, download
from cyclegan.files import write_bytes
from cyclegan.run_directory import read_log
from cyclegan.scores import METRICS, Scores, read_scores

HERE = Path(__file__).parent

# What the tables show, in this order; the JSON file holds every score.
SHOWN = ("kid", "frechet", "cycle", "cycle_rise", "edges", "l1", "psnr", "ssim", "colour")

# Settings that have an option of their own here, or follow from one.
OWN = ("a", "b", "test_a", "test_b", "out", "preset", "seed", "device", "threads", "steps", "epochs", "minutes")

DIRECTIONS = ("a2b", "b2a")


class Run(Config):
    """One finished run, as it stands in run.json beside its scores. settings: over those of the preset."""

    variant: str
    seed: int
    preset: str
    settings: dict[str, Any]
    device: str
    steps: int
    seconds: float
    threads: int
    machine: str
    versions: str
    command: str


# ---- one run, in a process of its own


def train_and_score(job: dict[str, Any]) -> None:
    """Train, or go on; score; and, last of all, write run.json, which says that the run is complete."""
    import torch

    import cyclegan

    data, out = Path(job["data"]), Path(job["out"])
    settings = {"tensorboard": False, **job["settings"]}
    cyclegan.train(data, preset=job["preset"], out=out, seed=job["seed"], device=job["device"], **settings)
    cyclegan.evaluate(out, a=data / "testA", b=data / "testB", paired=True, device=job["device"])

    # Events such as warnings may stand after the losses of the last step.
    last = [event for event in read_log(out / "log.jsonl") if "event" not in event][-1]
    run = Run(
        **{name: job[name] for name in ("variant", "seed", "preset", "settings", "device", "command")},
        steps=last["step"],
        seconds=last["seconds"],
        threads=torch.get_num_threads(),
        machine=describe_machine(job["device"]),
        versions=f"cyclegan {cyclegan.__version__}, torch {torch.__version__}, Python {platform.python_version()}",
    )
    write_bytes(out / "run.json", (run.model_dump_json(indent=1) + "\n").encode())


# ---- all runs


def work_through(jobs: list[dict[str, Any]], at_once: int) -> Generator[tuple[dict[str, Any], bool], None, None]:
    """Do the jobs, `at_once` of them at a time. Gives each one as it ends, and whether it went well.

    If this process is stopped, the runs save what they have and stop too.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, num_cores() // at_once))}
    waiting = list(jobs)
    running: dict[subprocess.Popen[bytes], dict[str, Any]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.pop(0)
                command = [sys.executable, __file__, "--job", json.dumps(job)]
                Path(job["log"]).parent.mkdir(parents=True, exist_ok=True)
                with Path(job["log"]).open("a") as log:
                    # In a session of its own: a second signal, from the terminal, would stop it without saving.
                    process = subprocess.Popen(
                        command,
                        env=environment,
                        stdout=log,
                        stderr=log,
                        stdin=subprocess.DEVNULL,
                        start_new_session=True,
                    )
                running[process] = job
            time.sleep(0.5)
            for process in [process for process in running if process.poll() is not None]:
                yield running.pop(process), process.returncode == 0
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def collect(folder: Path) -> list[tuple[Run, Scores]]:
    """Every finished run below a label's folder, by variant and seed."""
    files = sorted(folder.glob("*/seed*/run.json"))
    found = [(Run.model_validate_json(file.read_text()), read_scores(file.parent)) for file in files]
    return sorted(found, key=lambda pair: (list(EARTH_VARIANTS).index(pair[0].variant), pair[0].seed))


# ---- the results


def to_json(runs: list[tuple[Run, Scores]]) -> list[dict[str, Any]]:
    """What the results keep of each run: all but the scores of single images and the lists of files."""
    kept = {"step", "weights", "created", "features", "noise_sigma", "seed", "num_bootstrap"}
    results = []
    for run, scores in runs:
        directions = {
            direction: found.model_dump(mode="json", include={"metrics", "notes"}, exclude_none=True)
            for direction, found in scores.directions.items()
        }
        head = scores.model_dump(mode="json", include=kept)
        results.append({**run.model_dump(mode="json"), "scores": {**head, "directions": directions}})
    return results


def write_results(folder: Path, label: str, runs: list[tuple[Run, Scores]]) -> None:
    """Replace the results of a label in quality.json, keep those of others, and write quality.md from all of them."""
    file = folder / "quality.json"
    labels = json.loads(file.read_text()) if file.is_file() else {}
    labels[label] = to_json(runs)
    write_bytes(file, (json.dumps(labels, indent=1) + "\n").encode())
    write_bytes(folder / "quality.md", markdown(labels).encode())


HEAD = """# Quality on the earth data

Made by `benchmarks/quality.py`. Each row sums up one score over the runs of all seeds; sd is their standard deviation
(n - 1). The test tiles show places that neither network saw, and their truth is known. a2b: satellite photo to map;
b2a: map to satellite photo. Scores of single runs, with intervals over the images, are in quality.json.

* floor: real training images of the target against its real test images. No translator should be expected to beat it.
* ceiling: the input itself, untranslated. mean image: the average training image of the target.
* KID and Frechet distance are not on Inception's features: never compare them with published ones.
* s a step: time of training over steps, with sample grids and checkpoints.
"""


def markdown(labels: dict[str, list[dict[str, Any]]]) -> str:
    """The page for people, from what quality.json holds."""
    parts = [HEAD + "".join(f"* {METRICS[name].label}: {METRICS[name].meaning}\n" for name in SHOWN)]
    for label, runs in labels.items():
        parts.append(f"## {label}\n\n{describe(runs)}")
        for variant in dict.fromkeys(run["variant"] for run in runs):
            same = [run for run in runs if run["variant"] == variant]
            parts.append(f"### {label}: {variant}\n")
            seeds = ", ".join(str(run["seed"]) for run in same)
            for direction in DIRECTIONS:
                found = [run["scores"]["directions"][direction] for run in same]
                parts.append(f"{variant} {direction}, seeds {seeds}:\n\n{table(found)}")
            parts.append(f"{runs_table(same)}\n{notes(same)}")
    return "\n".join(parts)


def describe(runs: list[dict[str, Any]]) -> str:
    """How the runs of a label were made."""

    def distinct(texts: list[str]) -> str:
        return "; ".join(dict.fromkeys(texts))

    settings = ", ".join(f"{name} {value}" for name, value in runs[0]["settings"].items())
    threads = distinct([str(run["threads"]) for run in runs])
    lines = [
        f"* Preset `{runs[0]['preset']}` with {settings}",
        f"* {distinct([run['machine'] for run in runs])}; threads of a run: {threads}; device {runs[0]['device']}",
        f"* {distinct([run['versions'] for run in runs])}; "
        f"{distinct([run['scores']['features']['label'] for run in runs])}; "
        f"{distinct([run['scores']['weights'] for run in runs])} weights",
        *(f"* `{command}`" for command in dict.fromkeys(run["command"] for run in runs)),
    ]
    return "\n".join(lines) + "\n"


def table(found: list[dict[str, Any]]) -> str:
    """One direction of one variant: a row for each score, over the runs of all seeds."""
    lines = ["| score | better | mean | min .. max | sd | floor | ceiling | mean image |", "|---|---|" + "---:|" * 6]
    for name in SHOWN:
        scores = [run["metrics"][name] for run in found if name in run["metrics"]]
        if not scores:
            continue
        metric = METRICS[name]

        def show(value: float | None, digits: int = metric.digits) -> str:
            return "" if value is None else f"{value:z.{digits}f}"

        values = [score["value"]["value"] for score in scores]
        baselines = [average(scores, kind) for kind in ("floor", "ceiling", "mean_image")]
        cells = [
            f"{metric.label}{f', {metric.unit}' if metric.unit else ''}",
            metric.better,
            show(statistics.mean(values)),
            f"{show(min(values))} .. {show(max(values))}",
            show(statistics.stdev(values) if len(values) > 1 else None, metric.digits + 1),
            *map(show, baselines),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def average(scores: list[dict[str, Any]], kind: str) -> float | None:
    """Mean over runs of a floor, ceiling or mean image, which hardly differ; None where there is none."""
    values = [score[kind]["value"] for score in scores if kind in score]
    return statistics.mean(values) if values else None


def runs_table(runs: list[dict[str, Any]]) -> str:
    """One row for each run: its cost, and its L1 and KID in both directions."""
    columns = [(name, direction) for name in ("kid", "l1") for direction in DIRECTIONS]
    titles = [f"{METRICS[name].label.partition(',')[0]} {direction}" for name, direction in columns]
    lines = [f"| seed | steps | minutes | s a step | {' | '.join(titles)} |", "|" + "---:|" * (4 + len(columns))]
    for run in runs:
        cells = [str(run["seed"]), str(run["steps"]), f"{run['seconds'] / 60:.1f}"]
        cells.append(f"{run['seconds'] / run['steps']:.4f}")
        for name, direction in columns:
            value = run["scores"]["directions"][direction]["metrics"][name]["value"]["value"]
            cells.append(f"{value:.{METRICS[name].digits}f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def notes(runs: list[dict[str, Any]]) -> str:
    """What the evaluations said of their scores, each thing once."""
    texts = []
    for run in runs:
        for found in run["scores"]["directions"].values():
            texts += found["notes"]
            texts += [
                f"{METRICS[name].label}: {score['note']}." for name, score in found["metrics"].items() if score["note"]
            ]
    return "".join(f"* {text}\n" for text in dict.fromkeys(texts))


# ---- the command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="minutes of training of each run")
    length.add_argument("--steps", type=int, help="or its steps")
    parser.add_argument("--preset", default="paper", choices=list(PRESETS), help="default: paper")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument(
        "--variants", nargs="+", default=list(EARTH_VARIANTS), choices=list(EARTH_VARIANTS), help="default: both"
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="settings over those of the preset, by the names of cyclegan train: crop_size=64 width=16",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 or mps (default: cpu)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, which share the cores (default: 1)")
    parser.add_argument("--label", help="name of these runs in the results (default: the preset)")
    parser.add_argument("--work", type=Path, default=HERE / "work", help="data and runs (default: benchmarks/work)")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="default: benchmarks/results")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        train_and_score(json.loads(options.job))
        return
    if options.minutes is None and options.steps is None:
        parser.error("give --minutes or --steps")
    if options.jobs < 1:
        parser.error(f"--jobs is {options.jobs}; expected at least 1")
    # Ctrl-C and a kill both end in work_through's cleaning up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        benchmark(options)
    except InputError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("Stopped; the same command again goes on.", file=sys.stderr)
        raise SystemExit(130) from None


def benchmark(options: argparse.Namespace) -> None:
    """Cut the data, do what is missing, and write the results after every run."""
    label = options.label or options.preset
    if not re.fullmatch(r"[\w.-]+", label):
        raise InputError(f"The label {label!r} names a folder; use letters, digits, dots, dashes and underscores.")
    settings = resolve(options.preset, options.set, minutes=options.minutes, steps=options.steps)
    # The tiles have the size to which the training brings its images, so nothing is resized twice. They cover 240
    # pixels of the world's picture: at a crop of 256 they are enlarged and a little soft, the same for everyone.
    size = make_config(settings, preset=options.preset).data.resolved_load_size
    work = options.work.resolve()

    done = collect(work / label)
    for run, _ in done:
        if (run.preset, run.settings, run.device) != (options.preset, settings, options.device):
            raise InputError(
                f"{work / label} holds runs of preset {run.preset} with {run.settings} on {run.device}, not of "
                f"{options.preset} with {settings} on {options.device}; choose another --label."
            )
    jobs = []
    for seed in dict.fromkeys(options.seeds):  # seeds outside: one of each variant is done before the second
        for variant in dict.fromkeys(options.variants):
            if (variant, seed) in {(run.variant, run.seed) for run, _ in done}:
                continue
            data = work / "data" / f"earth-{variant}-{size}"
            if not (data / "about.json").is_file():
                download("earth", data, variant=variant, size=size)
            folder = work / label / variant
            jobs.append(
                {
                    "variant": variant,
                    "seed": seed,
                    "preset": options.preset,
                    "settings": settings,
                    "device": options.device,
                    "command": shlex.join(["python", "benchmarks/quality.py", *sys.argv[1:]]),
                    "data": str(data),
                    "out": str(folder / f"seed{seed}"),
                    "log": str(folder / f"seed{seed}.log"),
                }
            )

    print(f"{len(done)} runs are complete, {len(jobs)} to do, logs in {work / label}", file=sys.stderr)
    if done:
        write_results(options.results, label, done)

    num_failed = 0
    with closing(work_through(jobs, options.jobs)) as ended:
        for job, good in ended:
            print(f"{job['variant']}, seed {job['seed']}: {'done' if good else 'failed'}", file=sys.stderr)
            if good:
                write_results(options.results, label, collect(work / label))
            else:
                num_failed += 1
                lines = Path(job["log"]).read_text().splitlines() or ["it said nothing"]
                print(f"  {lines[-1]}\n  all of it: {job['log']}", file=sys.stderr)
    print(options.results / "quality.md")
    if num_failed:
        raise SystemExit(1)


def resolve(preset: str, pairs: list[str], **length: float | None) -> dict[str, Any]:
    """Settings from NAME=VALUE, checked and converted by the configuration itself, and the length of a run."""
    given: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"--set takes NAME=VALUE, not {pair!r}.")
        if name in OWN:
            raise InputError(f"--set cannot change {name}: it follows from the options of this benchmark.")
        given[name] = value
    given |= {name: value for name, value in length.items() if value is not None}
    values = flat_values(make_config(given, preset=preset))
    return {name: values[name] for name in given}


if __name__ == "__main__":
    main()

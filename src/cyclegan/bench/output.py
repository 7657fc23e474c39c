"""Write a benchmark: bench.json, bench.md and bench.png."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cyclegan.bench.measuring import Benchmark
from cyclegan.bench.picture import draw
from cyclegan.bench.points import Measured
from cyclegan.bench.view import markdown
from cyclegan.system.atomic import write_bytes
from cyclegan.system.provenance import command_line, now


def write(done: Benchmark, out: Path) -> list[Path]:
    """Write bench.json, bench.md and, where something was measured, bench.png. Each is written atomically."""
    files = {"bench.json": (json.dumps(as_json(done), indent=2) + "\n").encode(), "bench.md": markdown(done).encode()}
    if done.measured:
        files["bench.png"] = draw(done)
    for name, content in files.items():
        write_bytes(out / name, content)
    return [out / name for name in files]


def as_json(done: Benchmark) -> dict[str, Any]:
    """bench.json: every number, and no name of a machine."""
    subject = done.subject
    return {
        "created": now(),
        "command": command_line(),
        "machine": done.machine,
        "model": {
            "name": subject.name,
            "direction": subject.direction,
            "random_weights": not subject.is_trained,
            **subject.info.model.model_dump(mode="json"),
        },
        "base": {"size": done.base[0], "batch_size": done.base[1]},
        "minutes": done.minutes,
        "stopped": done.stopped,
        "command_start_seconds": done.start_seconds,
        "points": [_row(m) for m in done.measured],
        "auto": [
            {name: value for name, value in asdict(m.point).items() if name != "side"} | {"reason": m.reason}
            for m in done.choices
        ],
        "missing": [{**asdict(m.point), "why": m.why, "kind": m.kind} for m in done.missing],
        "notes": done.notes,
    }


def _row(measured: Measured) -> dict[str, Any]:
    values = asdict(measured)
    return {**values.pop("point"), **values, "images_per_second": measured.images_per_second}

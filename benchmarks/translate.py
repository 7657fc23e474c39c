"""Seconds of one translation by each engine and precision, beside the plain eager float32 forward.

Every engine runs in a separate process, in turn with the others, so the ratios hold when the speed of the machine
drifts. With the weights of a run it also reports the difference of each from float32, on images of a folder.

    python benchmarks/translate.py                       random weights, 256 pixels, 9 blocks, 64 wide
    python benchmarks/translate.py --blocks 4 --width 16 the demo's networks
    python benchmarks/translate.py --run runs/maps --calibrate maps/trainA --images maps/testA
    python benchmarks/translate.py --run ... --markdown benchmarks/results/translate.md

The plain network has --blocks and --width; a run of another size cannot be compared with it. Without a run, int8 is
calibrated on made pictures: its speed counts, its dB do not.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe_machine, write_page

SIDES = (
    *("plain fp32", "torch fp32", "torch bf16", "onnxruntime fp32", "openvino fp32", "openvino bf16"),
    *("onnxruntime int8", "openvino int8"),
)


def make_pictures(folder: Path, count: int, size: int) -> Path:
    """Smooth pictures, to calibrate random weights with."""
    from PIL import Image

    from cyclegan.images.formats import ImageFormat
    from cyclegan.images.tensors import from_tensor
    from cyclegan.translate.engines import smooth_picture

    folder.mkdir()
    for seed in range(count):
        Image.fromarray(from_tensor(smooth_picture(3, size, seed=seed)[0], ImageFormat())).save(folder / f"{seed}.png")
    return folder


def translator(side: str, run: Path, exports: Path):
    from cyclegan.translate.translator import Translator

    engine, precision = side.split()
    if precision == "int8":
        return Translator.load(exports / engine)
    return Translator.load(run, engine=engine, precision=precision)


def read(folder: Path, count: int, opened) -> list:
    from cyclegan.images.codecs import read_image
    from cyclegan.images.file_list import evenly_spaced, list_images
    from cyclegan.images.tensors import to_tensor

    paths = evenly_spaced(list_images(folder), count)
    return [to_tensor(read_image(path, opened.source.channels), opened.source)[None] for path in paths]


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Measure in a separate process: the median time of a call, the time until the first result, and dB to float32."""
    import torch

    torch.manual_seed(0)
    image = torch.rand(options.batch_size, 3, options.size, options.size) * 2 - 1
    if options.images:
        from cyclegan.translate.translator import Translator

        pictures = read(options.images, options.num_images, Translator.load(options.run))
        same = [picture for picture in pictures if picture.shape[-2:] == image.shape[-2:]]
        if same:
            image = torch.cat([same[i % len(same)] for i in range(options.batch_size)])
    clock = time.process_time if options.cpu_seconds else time.perf_counter
    started = clock()
    if options.side == "plain fp32":
        from cyclegan.bench.plain import plain_generator

        network = plain_generator(options.blocks, options.width).eval()

        def call():
            with torch.no_grad():
                return network(image)
    else:
        opened = translator(options.side, options.run, options.exports)

        def call():
            return opened.translate_tensor(image)

    call()
    result = {"first": clock() - started}
    seconds = []
    while len(seconds) < 3 or (sum(seconds) < 3 and len(seconds) < 50):
        began = clock()
        call()
        seconds.append(clock() - began)
    result["seconds"] = statistics.median(seconds)
    if options.decibels and options.side != "plain fp32":
        from cyclegan.images.tensors import from_tensor
        from cyclegan.translate.engines import psnr
        from cyclegan.translate.translator import Translator

        exact = Translator.load(options.run, device="cpu")
        pairs = [(exact.translate_tensor(each), opened.translate_tensor(each)) for each in pictures]
        files = [[from_tensor(each[0], exact.target).astype("float32") for each in pair] for pair in pairs]
        evenly_spaced = exact.target.high - exact.target.low
        floats = [psnr(*pair) for pair in pairs]
        rounded = [psnr(*(torch.from_numpy(each * 2 / evenly_spaced) for each in pair)) for pair in files]
        result |= {"db": min(statistics.fmean(floats), 200), "worst": min(*floats, 200)}
        result["rounded"] = min(statistics.fmean(rounded), 200)
    return result


def prepare(options: argparse.Namespace, place: Path) -> tuple[Path, list[str]]:
    """Make the model to measure, and list the sides that are installed; int8 needs images to calibrate on."""
    import importlib.util

    from cyclegan.export import export_model

    sides = [side for side in SIDES if importlib.util.find_spec(side.split()[0].replace("plain", "torch"))]
    run = options.run
    if run is None:
        import cyclegan
        from cyclegan.config import ModelConfig
        from cyclegan.images.formats import ImageFormat
        from cyclegan.networks import build_generator
        from cyclegan.storage.model import ModelInfo, save_model

        info = ModelInfo(
            cyclegan_version=cyclegan.__version__,
            model=ModelConfig(blocks=options.blocks, width=options.width),
            a=ImageFormat(),
            b=ImageFormat(),
            preprocess="none",
            load_size=options.size,
            crop_size=options.size,
            step=0,
            translate_with="final",
            directions=("a2b",),
            averages=False,
        )
        run = place / "model"
        save_model(run, info, {"a2b": build_generator(info.model, 3, 3, seed=0).state_dict()})
    if options.calibrate is None:
        if options.run is not None:
            return run, [side for side in sides if not side.endswith("int8")]
        options.calibrate = make_pictures(place / "pictures", 32, min(options.size, 256))
    for side in sides:
        engine, precision = side.split()
        if precision == "int8":
            form = "onnx" if engine == "onnxruntime" else engine
            done = export_model(
                run,
                place / "exports" / engine,
                format=form,
                direction="a2b",
                precision="int8",
                calibrate=options.calibrate,
            )
            print(f"{side}: {done.notes[0]}", flush=True)
    return run, sides


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a trained run of that size (default: random weights)")
    parser.add_argument("--blocks", type=int, default=9, help="residual blocks (default: 9)")
    parser.add_argument("--width", type=int, default=64, help="channels of the first layer (default: 64)")
    parser.add_argument("--calibrate", type=Path, metavar="FOLDER", help="images of domain A for int8")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="other images of domain A, for dB to float32")
    parser.add_argument("--num-images", type=int, default=8, help="how many of them (default: 8)")
    parser.add_argument("--size", type=int, default=256, help="pixels (default: 256)")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4], help="default: 1 4")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each engine (default: 3)")
    parser.add_argument(
        "--cpu-seconds",
        action="store_true",
        help="count seconds of the processor, on a busy machine; with OMP_NUM_THREADS=1",
    )
    parser.add_argument("--markdown", type=Path, help="write the tables to this file as well")
    parser.add_argument("--batch-size", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--exports", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--decibels", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        from cyclegan import InputError

        try:
            print(json.dumps(measure(options)))
        except InputError as error:  # a precision that this CPU has not
            print(json.dumps({"missing": str(error)}))
        return

    import cyclegan

    tables = []
    with tempfile.TemporaryDirectory() as place:
        run, sides = prepare(options, Path(place))
        for batch_size in options.batch_sizes:
            taken: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
            for number in range(options.rounds):
                for side, results in taken.items():
                    command = [sys.executable, __file__, "--side", side, "--run", str(run), "--size", str(options.size)]
                    command += ["--batch-size", str(batch_size), "--exports", str(Path(place) / "exports")]
                    command += ["--blocks", str(options.blocks), "--width", str(options.width)]
                    command += ["--cpu-seconds"] * options.cpu_seconds
                    if options.images:
                        command += ["--images", str(options.images), "--num-images", str(options.num_images)]
                        command += ["--decibels"] * (number == 0 and batch_size == options.batch_sizes[0])
                    done = subprocess.run(command, check=True, capture_output=True, text=True)
                    results.append(json.loads(done.stdout.splitlines()[-1]))
            lines = [
                f"Batch {batch_size}\n",
                "| engine | s | faster | first result after s | dB to fp32 | worst image | dB of 8-bit files |",
                "|---|---|---|---|---|---|---|",
            ]
            for side, results in taken.items():
                if "missing" in results[0]:
                    lines.append(f"| {side} | | | | | | |")
                    continue
                pairs = zip(taken["plain fp32"], results, strict=True)
                faster = statistics.median(plain["seconds"] / ours["seconds"] for plain, ours in pairs)
                seconds, first = (statistics.median(r[key] for r in results) for key in ("seconds", "first"))
                known = results[0] if "db" in results[0] else None
                close = (
                    [f"{known[key]:.1f}" if known[key] < 200 else "equal" for key in ("db", "worst", "rounded")]
                    if (known)
                    else ["", "", ""]
                )
                lines.append(f"| {side} | {seconds:.3f} | {faster:.2f}x | {first:.1f} | {' | '.join(close)} |")
                print(lines[-1], flush=True)
            tables.append("\n".join(lines))
    head = (
        f"cyclegan {cyclegan.__version__}, {describe_machine()}, {options.size} pixels, {options.blocks} blocks, "
        f"{options.width} wide, {options.rounds} rounds, medians" + ", processor time" * options.cpu_seconds
    )
    write_page("\n\n".join([head, *tables]) + "\n", options.markdown)


if __name__ == "__main__":
    main()

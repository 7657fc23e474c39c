"""Seconds and peak memory of one training step and one translation: this project beside a plain eager float32 step.

The plain side is written straight from the paper: six calls of the generators one after another, four of the
discriminators, `nn.Sequential`s, torch's default Adam. Both sides run in processes of their own, in turn, on the same
images, so that the ratio holds when the machine's speed drifts.

    python benchmarks/step.py                      64, 128 and 256 pixels on the CPU (about ten minutes on two cores)
    python benchmarks/step.py --sizes 64 --rounds 5 --precision auto
    python benchmarks/step.py --device cuda --markdown benchmarks/results/step.md
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

BLOCKS = {64: 6, 128: 6, 256: 9, 512: 9}


# ---- the plain side


def plain_generator(blocks: int):
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers = [nn.ReflectionPad2d(1), nn.Conv2d(256, 256, 3), nn.InstanceNorm2d(256)]
            again = [nn.ReflectionPad2d(1), nn.Conv2d(256, 256, 3), nn.InstanceNorm2d(256)]
            self.layers = nn.Sequential(*layers, nn.ReLU(), *again)

        def forward(self, x):
            return x + self.layers(x)

    layers = [nn.ReflectionPad2d(3), nn.Conv2d(3, 64, 7), nn.InstanceNorm2d(64), nn.ReLU()]
    for c in (64, 128):
        layers += [nn.Conv2d(c, 2 * c, 3, 2, 1), nn.InstanceNorm2d(2 * c), nn.ReLU()]
    layers += [Block() for _ in range(blocks)]
    for c in (256, 128):
        layers += [nn.ConvTranspose2d(c, c // 2, 3, 2, 1, 1), nn.InstanceNorm2d(c // 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(64, 3, 7), nn.Tanh())


def plain_discriminator():
    from torch import nn

    layers = [nn.Conv2d(3, 64, 4, 2, 1), nn.LeakyReLU(0.2)]
    for c, stride in ((64, 2), (128, 2), (256, 1)):
        layers += [nn.Conv2d(c, 2 * c, 4, stride, 1), nn.InstanceNorm2d(2 * c), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(512, 1, 4, 1, 1))


def plain_step(size: int, batch: int, device: str) -> Callable[[], None]:
    import torch
    from torch import nn

    g, f = (plain_generator(BLOCKS[size]).to(device) for _ in range(2))
    d_a, d_b = (plain_discriminator().to(device) for _ in range(2))
    g_parameters, d_parameters = [*g.parameters(), *f.parameters()], [*d_a.parameters(), *d_b.parameters()]
    g_adam = torch.optim.Adam(g_parameters, lr=2e-4, betas=(0.5, 0.999))
    d_adam = torch.optim.Adam(d_parameters, lr=2e-4, betas=(0.5, 0.999))
    a, b = (torch.rand(batch, 3, size, size, device=device) * 2 - 1 for _ in range(2))
    l1, mse = nn.L1Loss(), nn.MSELoss()

    def judged(score, real):
        return mse(score, torch.full_like(score, float(real)))

    def step() -> None:
        fake_b, fake_a = g(a), f(b)
        for parameter in d_parameters:
            parameter.requires_grad_(False)
        g_adam.zero_grad()
        loss = 10 * l1(f(fake_b), a) + 10 * l1(g(fake_a), b) + 5 * l1(g(b), b) + 5 * l1(f(a), a)
        loss = loss + judged(d_b(fake_b), True) + judged(d_a(fake_a), True)
        loss.backward()
        g_adam.step()
        for parameter in d_parameters:
            parameter.requires_grad_(True)
        d_adam.zero_grad()
        for network, real, fake in ((d_b, b, fake_b), (d_a, a, fake_a)):
            (0.5 * (judged(network(real), True) + judged(network(fake.detach()), False))).backward()
        d_adam.step()

    return step


def plain_translate(size: int, batch: int, device: str) -> Callable[[], None]:
    import torch

    network = plain_generator(BLOCKS[size]).to(device).eval()
    image = torch.rand(batch, 3, size, size) * 2 - 1

    def translate() -> None:
        with torch.no_grad():
            network(image.to(device)).cpu()

    return translate


# ---- this project


def our_step(size: int, batch: int, device: str, precision: str) -> Callable[[], None]:
    import torch

    from cyclegan.config import make_config
    from cyclegan.distributed import has_fast_bf16
    from cyclegan.step import TrainState, train_step

    if precision == "auto":
        precision = "bf16" if has_fast_bf16(torch.device(device)) else "fp32"
    config = make_config(
        {"crop_size": size, "blocks": BLOCKS[size], "batch_size": batch, "precision": precision, "steps": 1000}
    )
    state = TrainState.create(config, device)
    a, b = (torch.rand(batch, 3, size, size, device=device) * 2 - 1 for _ in range(2))
    return lambda: train_step(state, a, b) and None


def our_translate(size: int, batch: int, device: str) -> Callable[[], None]:
    import torch

    from cyclegan import ModelConfig
    from cyclegan.checkpoint import ModelInfo
    from cyclegan.images import ImageFormat
    from cyclegan.networks import build_generator
    from cyclegan.translate import Translator

    model = ModelConfig(blocks=BLOCKS[size])
    info = ModelInfo(
        cyclegan_version="",
        model=model,
        a=ImageFormat(),
        b=ImageFormat(),
        preprocess="none",
        load_size=size,
        crop_size=size,
        step=0,
        translate_with="final",
    )
    translator = Translator(build_generator(model, 3, 3, seed=0).eval(), info, "a2b", torch.device(device))
    image = torch.rand(batch, 3, size, size) * 2 - 1
    return lambda: translator.translate_tensor(image) is None and None


# ---- measuring


def measure(options: argparse.Namespace) -> dict[str, float]:
    """In a process of its own: the median time of a call, and the peak memory above that of an idle process."""
    import torch

    # Both sides begin with all modules in memory, so that only the work itself is counted.
    import cyclegan.step
    import cyclegan.translate  # noqa: F401

    torch.manual_seed(0)
    size, batch, device = options.sizes[0], options.batch_size, options.device
    idle = peak_bytes(device)
    if options.side == "plain":
        call = plain_step(size, batch, device) if options.work == "step" else plain_translate(size, batch, device)
    elif options.work == "step":
        call = our_step(size, batch, device, options.precision)
    else:
        call = our_translate(size, batch, device)
    call()
    seconds = []
    while len(seconds) < 3 or (sum(seconds) < 2 and len(seconds) < 50):
        started = time.perf_counter()
        call()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return {"seconds": statistics.median(seconds), "bytes": peak_bytes(device) - idle}


def peak_bytes(device: str) -> int:
    import torch

    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    import resource  # POSIX

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256], choices=list(BLOCKS), help="pixels")
    parser.add_argument("--batch-size", type=int, default=1, help="images of each domain (default: 1)")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each side (default: 3)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument(
        "--precision", default="fp32", choices=("fp32", "bf16", "auto"), help="of our step; default: fp32"
    )
    parser.add_argument("--markdown", type=Path, help="write the table to this file as well")
    parser.add_argument("--side", choices=("plain", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--work", choices=("step", "translate"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options)))
        return

    rows = []
    for size in options.sizes:
        for work in ("step", "translate"):
            taken: dict[str, list[dict[str, float]]] = {"plain": [], "ours": []}
            for _ in range(options.rounds):
                for side, results in taken.items():
                    command = [sys.executable, __file__, "--side", side, "--work", work, "--sizes", str(size)]
                    command += ["--batch-size", str(options.batch_size), "--device", options.device]
                    command += ["--precision", options.precision]
                    done = subprocess.run(command, check=True, capture_output=True, text=True)
                    results.append(json.loads(done.stdout))
            pairs = list(zip(taken["plain"], taken["ours"], strict=True))
            seconds = {side: statistics.median(r["seconds"] for r in results) for side, results in taken.items()}
            mebibytes = {
                side: statistics.median(r["bytes"] for r in results) / 2**20 for side, results in taken.items()
            }
            faster = statistics.median(plain["seconds"] / ours["seconds"] for plain, ours in pairs)
            memory = statistics.median(ours["bytes"] / max(plain["bytes"], 1) for plain, ours in pairs)
            rows.append(
                f"| {work} | {size} | {BLOCKS[size]} | {seconds['plain']:.3f} | {seconds['ours']:.3f} | {faster:.2f}x "
                f"| {mebibytes['plain']:.0f} | {mebibytes['ours']:.0f} | {memory:.2f}x |"
            )
            print(rows[-1], flush=True)

    import torch

    import cyclegan

    where = torch.cuda.get_device_name() if options.device.startswith("cuda") else f"{platform.machine()} CPU"
    head = (
        f"cyclegan {cyclegan.__version__}, torch {torch.__version__}, Python {platform.python_version()}, {where}, "
        f"{torch.get_num_threads()} threads, batch {options.batch_size}, our step in {options.precision}, "
        f"{options.rounds} rounds, medians\n\n"
        "| work | px | blocks | plain s | ours s | faster | plain MiB | ours MiB | memory |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    table = "\n".join([head, *rows]) + "\n"
    print("\n" + table)
    if options.markdown:
        options.markdown.parent.mkdir(parents=True, exist_ok=True)
        options.markdown.write_text(table)


if __name__ == "__main__":
    main()

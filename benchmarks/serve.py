"""`cyclegan serve` under load: its overhead, small requests beside a large image, many clients, hostile requests.

The server is a process on 127.0.0.1, beside the clients and, where it is compared, beside `Translator` in this process;
the two take turns. All loops are bounded, in number and in time.

    python benchmarks/serve.py                                  # overhead and latency, about ten minutes on two cores
    python benchmarks/serve.py --parts load --minutes 10        # 64 clients
    python benchmarks/serve.py --parts hostile --requests 10000 # malformed and half-sent requests beside honest ones

Each part writes its own section of benchmarks/results/serve.md and leaves the others as they are.
"""

import argparse
import collections
import http.client
import io
import itertools
import os
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import hostile
import numpy as np
from hostile import ADDRESS
from machine import describe_machine
from PIL import Image

RESULTS = Path(__file__).parent / "results" / "serve.md"
MOST_REQUESTS = 10**6  # of one part


# ---- the server


@dataclass
class Server:
    """A running `cyclegan serve`, and what the system knows of its process."""

    process: subprocess.Popen
    port: int
    model: str
    log: Path
    headers: dict[str, str] = field(default_factory=dict)
    secrets: tuple[bytes, ...] = ()  # what no answer may hold

    @property
    def host(self) -> str:
        return f"{ADDRESS}:{self.port}"

    @property
    def path(self) -> str:
        return f"/v1/models/{self.model}/a2b:translate"

    def status_of(self, name: str) -> int:
        """A number of /proc/PID/status: VmRSS and VmHWM in KiB, Threads."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in text.splitlines() if line.startswith(f"{name}:")).split()[1])

    def resident_mib(self) -> float:
        return self.status_of("VmRSS") / 1024

    def num_files(self) -> int:
        """Open file descriptors."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208


@contextmanager
def serving(run: Path, folder: Path, *options: str, threads: int | None = None) -> Iterator[Server]:
    """Start a server of one model, wait until it is ready, and stop it at the end."""
    with socket.create_server((ADDRESS, 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "cyclegan",
        "serve",
        str(run.resolve()),
        "--host",
        ADDRESS,
        "--port",
        str(port),
        *options,
    ]
    log = folder / f"serve_{port}.log"
    variables = dict(os.environ)
    if threads is not None:
        variables |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=variables, cwd=folder)
    places = (str(run.resolve()), str(folder), sys.prefix, str(Path(__file__).parents[1]), "Traceback", "site-packages")
    server = Server(process, port, run.name, log, secrets=tuple(map(str.encode, places)))
    try:
        ends = time.monotonic() + 120
        while fetch(server, "GET", "/readyz")[0] != 200:
            if process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError(f"The server does not begin:\n{log.read_text()}")
            time.sleep(0.1)
        yield server
    except Exception:
        print(f"The server said:\n{log.read_text(errors='replace')[-3000:]}", file=sys.stderr)
        raise
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def fetch(server: Server, method: str, path: str, content: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Status and body of one request on a connection of its own; status 0: no answer."""
    try:
        with Connection(server) as connection:
            return connection.send(method, path, content, **headers)
    except (OSError, http.client.HTTPException):
        return 0, b""


class Connection:
    """A connection that stays open for several requests."""

    def __init__(self, server: Server, seconds: float = 300) -> None:
        self.server = server
        self.http = http.client.HTTPConnection(ADDRESS, server.port, timeout=seconds)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def send(self, method: str, path: str, content: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.http.request(method, path, content, {**self.server.headers, **named})
        answer = self.http.getresponse()
        return answer.status, answer.read()

    def translate(self, picture: bytes, query: str = "") -> tuple[int, bytes]:
        return self.send("POST", self.server.path + query, picture, Content_Type="application/octet-stream")


# ---- models and pictures


def make_run(folder: Path, **model: object) -> Path:
    """A run of one step."""
    from cyclegan import train

    for seed, name in enumerate("ab"):
        (folder / name).mkdir(parents=True)
        (folder / name / "0.png").write_bytes(make_picture(64, 64, seed))
    small = {"crop_size": 16, "load_size": 18, "num_samples": 0, "num_validation": 0, "tensorboard": False}
    small |= {"discriminator_width": 4, "discriminator_layers": 1, "precision": "fp32"}
    train(folder / "a", folder / "b", out=folder / "run", quiet=True, steps=1, device="cpu", **small, **model)
    return folder / "run"


def make_picture(width: int, height: int, seed: int = 0) -> bytes:
    """A smooth picture with some noise, as PNG."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    noisy = np.clip(smooth + rng.integers(-4, 5, smooth.shape), 0, 255).astype(np.uint8)
    return encode(Image.fromarray(noisy))


def encode(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def difference(one: bytes, other: bytes) -> int:
    """The largest difference of two pictures, in levels; 255 for pictures of two sizes."""
    first, second = (np.asarray(Image.open(io.BytesIO(content)), np.int16) for content in (one, other))
    return int(abs(first - second).max()) if first.shape == second.shape else 255


def in_threads(work: Callable[[int], None], count: int) -> None:
    """Call work(0) to work(count - 1), each in a thread, and raise what one of them raised."""
    errors = []

    def run(index: int) -> None:
        try:
            work(index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def quantiles(seconds: list[float]) -> tuple[float, float]:
    """The median and the 99th percentile, in milliseconds."""
    ordered = sorted(seconds)
    return 1000 * statistics.median(ordered), 1000 * ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]


# ---- parts

# Name: model, side of the pictures, how many in a round.
CASES = {
    "64 channels, 9 blocks, 256 px": ({"width": 64, "blocks": 9}, 256, 16),
    "16 channels, 4 blocks, 256 px": ({"width": 16, "blocks": 4}, 256, 200),
    "16 channels, 4 blocks, 64 px": ({"width": 16, "blocks": 4}, 64, 1000),
}
WAYS = {"network": "network alone", "files": "decode, translate, encode", "server": "server"}


def part_overhead(options: argparse.Namespace, work: Path) -> list[str]:
    """Images a second of the server, whose clients never rest, and of a loop over a Translator."""
    import torch

    from cyclegan import Translator

    lines = [
        f"PNGs, {options.clients} clients; medians of {options.rounds} rounds in which the three take turns. The",
        "translator's loop is one thread, which translates one image after the other.",
        "",
        f"| model, pictures | {', images/s | '.join(WAYS.values())}, images/s | time of the server / of the network | "
        "/ of decode, translate, encode | ratios of the rounds to both |",
        "|---|---|---|---|---|---|---|",
    ]
    for number, (name, (model, side, count)) in enumerate(CASES.items()):
        count = max(options.clients, count // options.divide)
        run = make_run(work / f"overhead_{number}", **model)
        translator = Translator.load(run, device="cpu")
        pictures = [make_picture(side, side, seed) for seed in range(8)]
        images = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]

        def network(count=count, translator=translator, images=images) -> None:
            for _ in translator.translate(images[index % 8] for index in range(count)):
                pass

        def files(count=count, translator=translator, pictures=pictures) -> None:
            for index in range(count):
                encode(translator(Image.open(io.BytesIO(pictures[index % 8]))))

        with serving(run, work, threads=torch.get_num_threads()) as server:

            def loaded(count=count, server=server, pictures=pictures) -> None:
                numbers = iter(range(count))
                lock = threading.Lock()

                def client(_: int) -> None:
                    with Connection(server) as connection:
                        while True:
                            with lock:
                                number = next(numbers, None)
                            if number is None:
                                return
                            status, _ = connection.translate(pictures[number % 8])
                            assert status == 200, status

                in_threads(client, options.clients)

            ways = {"network": network, "files": files, "server": loaded}
            network(1), loaded(options.clients)  # first calls are slow
            seconds = {way: [] for way in ways}
            for turn in range(options.rounds):
                for way in (*list(ways)[turn % 3 :], *list(ways)[: turn % 3]):
                    began = time.perf_counter()
                    ways[way]()
                    seconds[way].append(time.perf_counter() - began)
        rates = [f"{count / statistics.median(spent):.3g}" for spent in seconds.values()]
        ratios = {
            way: [server / other for server, other in zip(seconds["server"], seconds[way], strict=True)]
            for way in ("network", "files")
        }
        middle = " | ".join(f"{statistics.median(each):.2f}" for each in ratios.values())
        rounds = "; ".join(", ".join(f"{ratio:.2f}" for ratio in each) for each in ratios.values())
        lines.append(f"| {name} | {' | '.join(rates)} | {middle} | {rounds} |")
        print(lines[-1], flush=True)
    return lines


def part_latency(options: argparse.Namespace, work: Path) -> list[str]:
    """One client with small requests, alone, and while a large image is translated."""
    side = options.large
    run = make_run(work / "latency", width=16, blocks=4)
    large, small = make_picture(side, side), make_picture(options.small, options.small)
    alone, beside, answers = [], [], []
    with serving(run, work) as server, Connection(server) as connection:

        def measure(times: list[float], goes_on: Callable[[], bool], most: int) -> None:
            for _ in range(most):
                if not goes_on():
                    return
                began = time.perf_counter()
                status, _ = connection.translate(small)
                times.append(time.perf_counter() - began)
                assert status == 200, status

        measure([], lambda: True, 20)
        measure(alone, lambda: True, 1000 // options.divide)

        def send_large() -> None:
            began = time.perf_counter()
            status, _ = fetch(server, "POST", server.path, large)
            answers.append((status, time.perf_counter() - began))

        thread = threading.Thread(target=send_large)
        thread.start()
        measure(beside, thread.is_alive, 20_000)
        thread.join()
        send_large()
        peak = server.status_of("VmHWM") / 1024
    assert all(status == 200 for status, _ in answers), answers
    (_, seconds), (_, seconds_alone) = answers
    rows = [(f"alone ({len(alone)})", *quantiles(alone)), (f"beside it ({len(beside)})", *quantiles(beside))]
    (_, p50_alone, _), (_, p50, p99) = rows
    return [
        f"Requests of {options.small} px, one after the other, beside one PNG of {side} px; 16 channels, 4 blocks.",
        "",
        "| requests | p50, ms | p99, ms | p99 / p50 |",
        "|---|---|---|---|",
        *(f"| {name} | {low:.1f} | {high:.1f} | {high / low:.2f} |" for name, low, high in rows),
        "",
        f"p99 beside it / p50 alone: {p99 / p50_alone:.2f}; p50 beside it / p50 alone: {p50 / p50_alone:.2f}. The "
        f"large image took {seconds:.1f} s beside them and {seconds_alone:.1f} s alone. Peak memory: {peak:.0f} MiB.",
    ]


def part_load(options: argparse.Namespace, work: Path) -> list[str]:
    """Clients that never rest, for minutes: answers by status, and memory over time."""
    clients = 64
    run = make_run(work / "load", width=8, blocks=2)
    rng = np.random.default_rng(0)
    pictures = [make_picture(*rng.integers(16, 120, 2), seed=seed) for seed in range(32)]
    counts: collections.Counter[int] = collections.Counter()
    times: list[float] = []
    memory: list[tuple[float, float]] = []
    levels: collections.Counter[int] = collections.Counter()
    lock = threading.Lock()
    with serving(run, work) as server:
        right = [fetch(server, "POST", server.path, picture)[1] for picture in pictures]
        began = time.monotonic()
        ends = began + 60 * options.minutes

        def client(index: int) -> None:
            with Connection(server) as connection:
                for number in range(MOST_REQUESTS // clients):
                    if time.monotonic() > ends:
                        return
                    place = (index * 7 + number) % len(pictures)
                    sent = time.perf_counter()
                    try:
                        status, content = connection.translate(pictures[place])
                    except (OSError, http.client.HTTPException):
                        connection.http.close()
                        status, content = 0, b""
                    with lock:
                        counts[status] += 1
                    if status == 200:
                        times.append(time.perf_counter() - sent)
                        if content != right[place]:
                            levels[difference(content, right[place])] += 1
                    elif status == 503:
                        time.sleep(0.05)  # sooner than asked for: the load stays

        def watch(_: int) -> None:
            while time.monotonic() < ends:
                memory.append((time.monotonic() - began, server.resident_mib()))
                time.sleep(1)

        in_threads(lambda index: watch(index) if index == clients else client(index), clients + 1)
        time.sleep(1)
        last = server.resident_mib()
        threads, files = server.status_of("Threads"), server.num_files()
    first = next((mib for second, mib in memory if second >= min(60, 30 * options.minutes)), memory[-1][1])
    low, high = quantiles(times)
    named = ", ".join(f"{status or 'no answer'}: {count:,}" for status, count in sorted(counts.items()))
    return [
        f"{clients} clients for {options.minutes:g} minutes, PNGs of 16 to 120 px; 8 channels, 2 blocks.",
        "A client that is refused with 503 asks again after 50 ms.",
        "",
        f"* Answers by status: {named}. Results that differ from the first one: "
        f"{levels.total():,}, by at most {max(levels, default=0)} of 255.",
        f"* Results: {counts[200] / 60 / options.minutes:.0f} a second; p50 {low:.0f} ms, p99 {high:.0f} ms.",
        f"* Resident memory after the first minute {first:.0f} MiB, at the end {last:.0f} MiB "
        f"({100 * (last / first - 1):+.1f} %); minute by minute {', '.join(f'{mib:.0f}' for _, mib in memory[::60])}.",
        f"* {threads} threads and {files} open files at the end.",
    ]


@dataclass
class Siege:
    """What came of hostile requests beside honest ones."""

    counts: collections.Counter[str]
    wrong: list[str]  # hostile requests with a bad answer
    honest: int  # answers to honest requests
    differing: list[str]  # honest requests with another answer than before


def besiege(server: Server, count: int, *, clients: int = 8, honest_clients: int = 2, seed: int = 0) -> Siege:
    """Send so many hostile requests by some clients, beside others whose answers must stay byte for byte the same."""
    # Nobody else has images of these sizes, so none shares a batch, which would round otherwise.
    kinds = {
        (index, name): hostile.pictures(31 + index, 23)[name]
        for index in range(honest_clients)
        for name in ("png", "jpeg", "tiff", "webp")
    }
    right = {key: fetch(server, "POST", server.path, content) for key, content in kinds.items()}
    assert all(status == 200 for status, _ in right.values())
    stream = itertools.islice(hostile.requests(server.path, server.host, server.headers, seed), count)
    found = Siege(collections.Counter(), [], 0, [])
    lock, ended = threading.Lock(), threading.Event()

    def attack(_: int) -> None:
        while True:
            with lock:
                request = next(stream, None)
            if request is None:
                return
            try:
                answer = hostile.send(server.port, request)
            except OSError as error:
                found.wrong.append(f"{request.name}: {type(error).__name__} {error}")
                continue
            with lock:
                found.counts[str(answer.status or "closed")] += 1
            if fault := hostile.find_fault(request, answer, server.secrets):
                found.wrong.append(f"{request.name}: {fault}: {answer.content[:300]!r}")

    def honest(index: int) -> None:
        with Connection(server) as connection:
            for number in range(MOST_REQUESTS):
                if ended.is_set():
                    return
                key = [key for key in kinds if key[0] == index][number % 4]
                status, content = connection.translate(kinds[key])
                if status == 503:
                    time.sleep(0.05)
                    continue
                with lock:
                    found.honest += 1
                if (status, content) != right[key]:
                    found.differing.append(f"{key}: {status} {content[:200]!r}")

    friends = threading.Thread(target=in_threads, args=(honest, honest_clients))
    friends.start()
    try:
        in_threads(attack, clients)
    finally:
        ended.set()
        friends.join()
    return found


def part_hostile(options: argparse.Namespace, work: Path) -> list[str]:
    """Malformed, hostile and half-sent requests, beside honest ones."""
    run = make_run(work / "hostile", width=8, blocks=2)
    with serving(run, work) as server:
        before = besiege(server, 500, seed=1)  # allocates what stays
        first = server.resident_mib(), server.status_of("Threads"), server.num_files()
        began = time.perf_counter()
        found = besiege(server, options.requests)
        seconds = time.perf_counter() - began
        time.sleep(2)
        last = server.resident_mib(), server.status_of("Threads"), server.num_files()
        peak = server.status_of("VmHWM") / 1024
        log = server.log.read_text(errors="replace")
    for text in [*before.wrong, *found.wrong][:40]:
        print(f"wrong: {text}", file=sys.stderr)
    for text in [*before.differing, *found.differing][:10]:
        print(f"differs: {text}", file=sys.stderr)
    named = ", ".join(f"{status}: {count:,}" for status, count in sorted(found.counts.items()))
    changes = ("MiB resident", "threads", "open files")
    moved = "; ".join(f"{name} {a:.0f} and {b:.0f}" for name, a, b in zip(changes, first, last, strict=True))
    return [
        f"{sum(found.counts.values()):,} requests of 8 clients in {seconds:.0f} s beside 2 honest ones, after 500.",
        "",
        f"* Answers by status: {named}. Wrong ones (a success, a 5xx but 503, none in time): {len(found.wrong)}.",
        f"* {found.honest:,} honest answers, of which {len(found.differing)} differ from those before.",
        f"* Before and after: {moved}; peak {peak:.0f} MiB. Tracebacks in the log: {log.count('Traceback')}.",
    ]


PARTS = {
    "overhead": ("Overhead at full load", part_overhead),
    "latency": ("Small requests beside a large image", part_latency),
    "load": ("Many clients", part_load),
    "hostile": ("Hostile requests", part_hostile),
}


def commit() -> str:
    """The commit that is measured, and whether there are changes to it."""
    git = ["git", "-C", str(Path(__file__).parent)]
    found = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run([*git, "status", "--porcelain", "--", "../src"], capture_output=True, text=True)
    return (found.stdout.strip() or "unknown") + (" with changes" if changed.stdout.strip() else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["overhead", "latency"])
    parser.add_argument("--rounds", type=int, default=5, help="of part overhead")
    parser.add_argument("--clients", type=int, default=4, help="of part overhead")
    parser.add_argument("--large", type=int, default=4000, help="side of the large image, in pixels")
    parser.add_argument("--small", type=int, default=64, help="side of the small ones")
    parser.add_argument("--minutes", type=float, default=10.0, help="of part load; at most 60")
    parser.add_argument("--requests", type=int, default=10_000, help="of part hostile; at most 100,000")
    parser.add_argument("--divide", type=int, default=1, help="measure so many times fewer, to see whether it runs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the page of results")
    options = parser.parse_args()
    if not (0 < options.minutes <= 60 and 0 < options.requests <= 100_000):
        parser.error("--minutes is at most 60, --requests at most 100000")

    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as `cyclegan` sets it, before torch is loaded

    text = (
        options.out.read_text()
        if options.out.exists()
        else "# The server under load\n\nMade by `benchmarks/serve.py`.\n"
    )
    for part in options.parts:
        title, measure = PARTS[part]
        with tempfile.TemporaryDirectory(prefix="serve") as folder:
            lines = measure(options, Path(folder))
        command = shlex.join(["python", "benchmarks/serve.py", *sys.argv[1:]])
        lines += ["", f"`{command}`, commit {commit()}; {describe_machine()}."]
        section = f"## {title}\n\n" + "\n".join(lines) + "\n"
        before, found, rest = text.partition(f"## {title}\n")
        _, more, after = rest.partition("\n## ")
        text = f"{before.rstrip()}\n\n{section}" + (f"\n## {after}" if found and more else "")
        options.out.parent.mkdir(exist_ok=True)
        options.out.write_text(text)
        print(section, flush=True)


if __name__ == "__main__":
    main()

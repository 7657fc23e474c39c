"""benchmarks/peers.py: methods of other authors, here a stand-in with the interface of their code."""

import importlib
import math
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import make_folder
from cyclegan import InputError, Translator
from cyclegan.networks import GENERATORS

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SIZES = {"crop_size": 16, "load_size": 20, "width": 4, "blocks": 4, "discriminator_width": 4, "discriminator_layers": 1}

# A checkout as far as it is called: what it was asked is noted in TRACE.
CHECKOUT = {
    "options/__init__.py": "",
    "options/train_options.py": """
        import argparse
        import sys

        class TrainOptions:
            def parse(self):
                words = sys.argv[1:]
                options = {name[2:]: value for name, value in zip(words[::2], words[1::2])}
                defaults = {"n_epochs": 2, "n_epochs_decay": 2, "nce_layers": "0,4,8,12,16"}
                return argparse.Namespace(**{**defaults, **options})
    """,
    "models/__init__.py": """
        import os
        import signal

        import torch
        from models import networks

        TRACE = []
        STOP_AT = None

        def create_model(opt):
            return Model(opt)

        class Model:
            model_names = ["G"]

            def __init__(self, opt):
                self.opt = opt
                self.netG = networks.define_G(3, 3, int(opt.ngf), opt.netG)
                self.optimizers = []

            def data_dependent_initialize(self, batch):
                self.optimizers = [torch.optim.SGD(self.netG.parameters(), lr=1.0)]

            def setup(self, opt):
                falling = lambda epoch: 1 - epoch / 10
                self.schedulers = [torch.optim.lr_scheduler.LambdaLR(each, falling) for each in self.optimizers]

            def update_learning_rate(self):
                for scheduler in self.schedulers:
                    scheduler.step()

            def set_input(self, batch):
                a_to_b = self.opt.direction == "AtoB"
                self.real_A, self.real_B = batch["A" if a_to_b else "B"], batch["B" if a_to_b else "A"]
                self.epoch = batch.get("epoch")

            def optimize_parameters(self):
                self.loss_G = (self.netG(self.real_A) - self.real_B).abs().mean()
                self.optimizers[0].zero_grad()
                self.loss_G.backward()
                self.optimizers[0].step()
                rate = self.optimizers[0].param_groups[0]["lr"]
                TRACE.append((self.opt.direction, self.epoch, round(rate, 3), float(self.real_A.mean())))
                if len(TRACE) == STOP_AT:
                    os.kill(os.getpid(), signal.SIGTERM)

            def get_current_losses(self):
                return {"G": self.loss_G.item()}
    """,
    "models/networks.py": """
        from torch import nn

        def define_G(input_nc, output_nc, ngf, netG, norm="instance"):
            assert netG == "resnet_4blocks"
            return nn.Sequential(nn.Conv2d(input_nc, ngf, 3, padding=1), nn.Conv2d(ngf, output_nc, 1), nn.Tanh())
    """,
    "models/patchnce.py": """
        class PatchNCELoss:
            pass

        class PatchNCELoss2:
            pass
    """,
    "data/__init__.py": """
        import os

        import torchvision.transforms as transforms
        from PIL import Image

        def create_dataset(opt):
            return Dataset(opt)

        class Dataset:
            def __init__(self, opt):
                size = int(opt.load_size)
                steps = [transforms.Resize([size, size], Image.BICUBIC), transforms.RandomCrop(int(opt.crop_size))]
                steps += [transforms.RandomHorizontalFlip(), transforms.ToTensor()]
                self.transform = transforms.Compose([*steps, transforms.Normalize((0.5,) * 3, (0.5,) * 3)])
                self.root = opt.dataroot

            def set_epoch(self, epoch):
                self.epoch = epoch

            def __iter__(self):
                sides = [os.path.join(self.root, f"train{domain}") for domain in "AB"]
                for names in zip(*(sorted(os.listdir(side)) for side in sides)):
                    images = [Image.open(os.path.join(side, name)) for side, name in zip(sides, names)]
                    batch = dict(zip("AB", (self.transform(image)[None] for image in images)))
                    yield {**batch, "epoch": getattr(self, "epoch", 0)}
    """,
}


@pytest.fixture
def benchmarks(monkeypatch):
    """The modules of benchmarks/, and nothing of a checkout once the test is over."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    before = set(sys.modules)
    yield importlib.import_module
    ours = {path.stem for path in BENCHMARKS.glob("*.py")}
    theirs = ("models", "options", "data", "torchvision")
    for name in set(sys.modules) - before:
        if name in ours or name.partition(".")[0] in theirs:
            del sys.modules[name]
    GENERATORS.pop("peer", None)


@pytest.fixture
def job(tmp_path):
    """A run of eight steps, and the checkout for it."""
    checkout, data = tmp_path / "checkout", tmp_path / "data"
    for name, text in CHECKOUT.items():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(textwrap.dedent(text))
    for number, name in enumerate(("trainA", "trainB", "valA", "valB")):
        make_folder(data / name, 3, seed=number)
    return {
        "recipe": "cut",
        "settings": SIZES,
        "data": str(data),
        "out": str(tmp_path / "run"),
        "checkout": str(checkout),
        "code": "abc",
        "device": "cpu",
        "split": "val",
        "seed": 0,
        "steps": 8,
    }


def trace():
    return sys.modules["models"].TRACE


def test_images_are_prepared_as_by_torchvision(benchmarks):
    transforms = benchmarks("peer_transforms")
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    image = Image.fromarray(pixels)
    smaller = transforms.Resize([20, 10], Image.Resampling.BICUBIC)(image)
    assert np.array_equal(smaller, image.resize((10, 20), Image.Resampling.BICUBIC))

    torch.manual_seed(0)
    crops = [np.asarray(transforms.RandomCrop(29)(image)) for _ in range(200)]
    places = {(top, left): pixels[top : top + 29, left : left + 29] for top in range(2) for left in range(12)}
    found = {place for crop in crops for place, expected in places.items() if np.array_equal(crop, expected)}
    assert found == set(places)
    with pytest.raises(ValueError, match="40x30 pixels; expected at least 31"):
        transforms.RandomCrop(31)(image)

    flipped = [np.array_equal(transforms.RandomHorizontalFlip()(image), pixels[:, ::-1]) for _ in range(200)]
    assert 70 < sum(flipped) < 130
    values = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)])(image)
    assert values.shape == (3, 30, 40)
    assert values.dtype == torch.float32
    assert torch.allclose(values, torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1).float(), atol=1e-6)
    assert transforms.Lambda(lambda x: x.width)(image) == 40


def test_a_schedule_in_epochs_is_stretched_over_the_steps_and_both_directions_train(benchmarks, job):
    benchmarks("peer_code").train(job)
    forward, backward = ([row for row in trace() if row[0] == name] for name in ("AtoB", "BtoA"))
    # Four epochs in eight steps, at the learning rate of each epoch.
    assert [row[2] for row in forward] == [row[2] for row in backward] == [1, 1, 0.9, 0.9, 0.8, 0.8, 0.7, 0.7]
    # Batches of the epoch that `set_epoch` named; the first was drawn to create the models.
    assert [row[1] for row in forward] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert all(there[3] != back[3] for there, back in zip(forward, backward, strict=True))


def test_the_trained_generators_are_models_that_translate_and_are_scored(benchmarks, job):
    benchmarks("peer_code").train(job)
    out, data = Path(job["out"]), Path(job["data"])
    for direction, domain in (("a2b", "A"), ("b2a", "B")):
        translator = Translator.load(out, direction=direction, device="cpu")
        for path in (data / f"val{domain}").iterdir():
            with Image.open(path) as image, Image.open(out / "translations" / direction / path.name) as saved:
                assert saved.size == image.size
                assert np.array_equal(translator(image), saved)
    state = torch.load(out / "checkpoint.pt", weights_only=True)["models"][0]["networks"]["G"]
    model = benchmarks("models.networks").define_G(3, 3, 4, "resnet_4blocks")
    model.load_state_dict(state)
    with Image.open(data / "valA" / "0.png") as image, Image.open(out / "translations" / "a2b" / "0.png") as saved:
        expected = model(torch.from_numpy(np.asarray(image) / 127.5 - 1).float().permute(2, 0, 1)[None])
        found = torch.from_numpy(np.asarray(saved) / 127.5 - 1).permute(2, 0, 1)
    assert (expected[0] - found).abs().max() < 1.01 / 255
    scores = importlib.import_module("cyclegan").evaluate(out, data / "valA", data / "valB", paired=True, device="cpu")
    assert {"kid", "l1", "edges", "ssim"} <= set(scores.directions["b2a"].metrics)


def test_a_stopped_run_resumes_with_its_weights_and_learning_rate(benchmarks, job):
    code = benchmarks("peer_code")
    code.load_checkout(Path(job["checkout"]))
    importlib.import_module("models").STOP_AT = 6  # in the third step of both directions
    with pytest.raises(SystemExit) as stop:
        code.train(job)
    assert stop.value.code == 143
    checkpoint = Path(job["out"]) / "checkpoint.pt"
    assert torch.load(checkpoint, weights_only=True)["step"] == 3
    assert not (Path(job["out"]) / "model").exists()
    code.train(job)
    assert [row[2] for row in trace() if row[0] == "AtoB"] == [1, 1, 0.9, 0.9, 0.8, 0.8, 0.7, 0.7]
    assert (Path(job["out"]) / "model" / "config.json").is_file()
    # What is complete is not trained again.
    code.train(job)
    assert len(trace()) == 16


@pytest.mark.parametrize(
    ("settings", "device", "message"),
    [({"blocks": 5}, "cpu", "blocks is 5"), ({}, "mps", "device is mps")],
)
def test_what_their_code_cannot_do_is_said(benchmarks, job, settings, device, message):
    with pytest.raises(InputError, match=message):
        benchmarks("peer_code").train({**job, "settings": {**SIZES, **settings}, "device": device})


def test_the_faster_of_two_equal_losses_is_taken(benchmarks, job):
    benchmarks("peer_code").load_checkout(Path(job["checkout"]))
    losses = importlib.import_module("models.patchnce")
    assert "torchvision" not in sys.modules  # others look whether it is installed
    assert losses.PatchNCELoss is losses.PatchNCELoss2


@pytest.mark.parametrize(("recipe", "directions"), [("cut", ["AtoB", "BtoA"]), ("cut_each", ["AtoB"])])
def test_one_direction_is_timed_where_each_has_all_the_minutes(recipe, directions, benchmarks, job):
    step = benchmarks("peer_code").timed_step(recipe, SIZES, "cpu", Path(job["checkout"]))
    assert step().ndim == 0
    assert [row[0] for row in trace()] == directions


def test_checkouts_are_named_on_the_command_line(benchmarks, job, monkeypatch, capsys):
    peers, checkout = benchmarks("peers"), job["checkout"]
    assert peers.read_checkouts([f"dclgan={checkout}"]) == {"dclgan": Path(checkout)}
    for word, message in (
        (checkout, "expected cut=DIR or dclgan=DIR"),
        (f"cat={checkout}", "expected cut=DIR or dclgan=DIR"),
        (f"cut={Path(checkout).parent}", "is no checkout of taesungp/contrastive-unpaired-translation"),
    ):
        with pytest.raises(InputError, match=message):
            peers.read_checkouts([word])
    # A method whose checkout is missing is named before anything is done.
    places = ["--work", str(Path(job["out"])), "--results", str(Path(job["out"]) / "results")]
    monkeypatch.setattr(sys, "argv", ["peers.py", f"cut={checkout}", "--steps", "1", *places])
    with pytest.raises(SystemExit):
        peers.main()
    assert "dclgan is trained by the code of its authors" in capsys.readouterr().err
    assert not Path(job["out"]).exists()
    # The recorded command has no folder of this machine.
    assert benchmarks("quality").command_line() == "python benchmarks/peers.py cut=DIR --steps 1"


def made_up_run(task, recipe, **scores):
    return {
        "task": task,
        "recipe": recipe,
        "seed": 0,
        "split": "val",
        "settings": {"crop_size": 64},
        "beyond_paper": None,
        "code": "abc1234" if recipe == "cut" else None,
        "device": "cpu",
        "steps": 10,
        "step_seconds": 0.1,
        "threads": 1,
        "machine": "abacus",
        "command": "python benchmarks/peers.py",
        "scores": {direction: scores for direction in ("a2b", "b2a")},
        "baselines": {direction: {} for direction in ("a2b", "b2a")},
    }


def test_the_page_has_every_score_relative_to_paper_and_says_whose_code_it_was(benchmarks):
    runs = [
        made_up_run(task, recipe, kid=kid, l1=0.2, edges=edges, cycle_rise=0.1)
        for task, kids in (("etopo1", (0.4, 0.1)), ("drawings", (0.1, 0.1)))
        for recipe, kid, edges in zip(("paper", "cut"), kids, (0.5, 0.75), strict=True)
    ]
    page = benchmarks("peers").page({"mine": runs})
    assert "`cut`: taesungp/contrastive-unpaired-translation abc1234" in page
    lines = page.splitlines()
    titles = next(line for line in lines if line.startswith("| recipe | KID, less"))
    row = [line for line in lines if line.startswith("| `cut` |")][1]
    found = dict(zip(*([cell.strip() for cell in line.split("|")[1:-1]] for line in (titles, row)), strict=True))
    assert found == {
        "recipe": "`cut`",
        "KID, less is better": f"{math.sqrt(1 / 4):.2f}",
        "edges kept, more is better": "1.50",
        "L1, less is better": "1.00",
    }
    # The tables of the tasks have the scores that rank nothing, too.
    assert page.count("rise of the cycle error by noise") == 2

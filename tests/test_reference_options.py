"""Commands and options of the reference repository, as commands and settings of ours."""

import re
import shlex
import subprocess
import tomllib
import warnings
from pathlib import Path

import pytest
import torch

import cyclegan.training.loop
from cyclegan.cli import COMMANDS, _parser, main
from cyclegan.config import TrainConfig, field_sections, make_config, resumed_config, to_toml
from cyclegan.errors import InputError
from cyclegan.reference.equivalent import translate_reference
from cyclegan.reference.options import OPTIONS
from cyclegan.training.schedule import learning_rate_at

ROOT = Path(__file__).parent.parent
TRAIN = "python train.py --dataroot ./datasets/maps --name maps_cyclegan --model cycle_gan"
TEST = "python test.py --dataroot ./datasets/maps --name maps_cyclegan --model cycle_gan"

# All options of their two commands with the model cycle_gan (or test), in the version until 2024, and their defaults.
BASE = """dataroot=None name=experiment_name gpu_ids=0 checkpoints_dir=./checkpoints model=cycle_gan input_nc=3
output_nc=3 ngf=64 ndf=64 netD=basic netG=resnet_9blocks n_layers_D=3 norm=instance init_type=normal init_gain=0.02
no_dropout=True dataset_mode=unaligned direction=AtoB serial_batches=False num_threads=4 batch_size=1 load_size=286
crop_size=256 max_dataset_size=None preprocess=resize_and_crop no_flip=False display_winsize=256 epoch=latest
load_iter=0 verbose=False suffix= use_wandb=False wandb_project_name=CycleGAN-and-pix2pix"""
TRAINING = """display_freq=400 display_ncols=4 display_id=1 display_server=http://localhost display_env=main
display_port=8097 update_html_freq=1000 print_freq=100 no_html=False save_latest_freq=5000 save_epoch_freq=5
save_by_iter=False continue_train=False epoch_count=1 phase=train n_epochs=100 n_epochs_decay=100 beta1=0.5 lr=0.0002
gan_mode=lsgan pool_size=50 lr_policy=linear lr_decay_iters=50 lambda_A=10.0 lambda_B=10.0 lambda_identity=0.5"""
TESTING = (
    "results_dir=./results/ aspect_ratio=1.0 phase=test eval=False num_test=50 model=test load_size=256 model_suffix="
)
OLDER = {
    "which_direction": "direction",
    "nThreads": "num_threads",
    "batchSize": "batch_size",
    "resize_or_crop": "preprocess",
    "loadSize": "load_size",
    "fineSize": "crop_size",
    "which_model_netG": "netG",
    "which_model_netD": "netD",
    "identity": "lambda_identity",
    "niter": "n_epochs",
    "niter_decay": "n_epochs_decay",
    "which_epoch": "epoch",
    "how_many": "num_test",
}


@pytest.fixture
def run(monkeypatch, tmp_path):
    """What a printed command for `train` would train: the words go through our own parser, into a configuration."""
    monkeypatch.chdir(tmp_path)
    found = {}

    def train(a, b, *, preset, resume, config_file=None, fresh=False, **settings):
        assert (config_file, fresh) == (None, False)
        given = {name: value for name, value in (("a", a), ("b", b)) if value is not None}
        found["config"] = make_config({**given, **settings}, preset=preset)
        found["resume"] = resume

    monkeypatch.setattr(cyclegan.training.loop, "train", train)

    def configuration(command):
        *before, words = translate_reference(command).commands
        assert all(words[:2] == ("cyclegan", "import") for words in before)
        main(known(words[1:]))
        return found["config"]

    return configuration


def known(words):
    """Without the flags of settings that the command line does not have (yet): a tracker and a model to begin from."""
    words = list(words)
    for flag in ("--wandb", "--init-from"):
        parser = _parser(["train", "."])
        if flag in words and parser.parse_known_args(["train", ".", flag, "x"])[1]:
            del words[words.index(flag) : words.index(flag) + 2]
    return words


def parse(words):
    return _parser(list(words)).parse_args(list(words))


def printed(command):
    return str(translate_reference(command)).splitlines()


def test_the_table_has_every_option_with_its_default():
    table = {
        (command, name) for command in ("train", "test") for o in OPTIONS if o.in_command(command) for name in o.names
    }
    for command, text in (("train", f"{BASE} {TRAINING}"), ("test", f"{BASE} {TESTING}")):
        theirs = dict(word.split("=", 1) for word in text.split())
        for name, default in theirs.items():
            assert (command, name) in table, name
            (option,) = (option for option in OPTIONS if option.name == name and option.in_command(command))
            assert str(option.default_of(command)) == default, name
        extra = {n for c, n in table if c == command} - theirs.keys() - OLDER.keys()
        assert extra <= {"no_lsgan", "ntest", "lambda_L1", "lambda_regression", "new_dataset_option"}
    assert {old: o.name for o in OPTIONS for old in o.names[1:]} == OLDER
    assert len({name for option in OPTIONS for name in option.names}) == sum(len(option.names) for option in OPTIONS)


def test_a_sentence_that_several_rows_share_is_written_once():
    source = ROOT / "src" / "cyclegan" / "reference" / "options.toml"
    table = tomllib.loads(source.read_text(encoding="utf-8"))
    texts = [value for row in table.values() for value in row.values() if isinstance(value, str) and len(value) > 50]
    assert len(set(texts)) == len(texts) > 30


def test_every_option_has_a_counterpart_that_exists_or_a_reason():
    flags = {action for parser in (_parser(["train"]),) for action in _all_flags(parser)}
    flags |= {f"--{name.replace('_', '-')}" for name in field_sections()}
    for option in OPTIONS:
        assert option.setting is None or option.setting in field_sections()
        if option.status in ("refused", "not needed", "other meaning"):
            assert len(option.differs) > 20, option.name
        else:
            assert option.ours, option.name
        for flag in re.findall(r"--[a-z0-9-]+", option.ours):
            assert flag in flags | {"--wandb", "--init-from", "--epoch"}, flag


def _all_flags(parser):
    for action in parser._actions:
        yield from action.option_strings
        if action.nargs == "A...":
            for sub in action.choices.values():
                yield from _all_flags(sub)


def test_the_command_of_their_readme(run):
    (line,) = printed(TRAIN)
    assert line == (
        "cyclegan train ./datasets/maps --out ./checkpoints/maps_cyclegan --preset paper --workers 4 --log-steps 100 "
        "--num-validation 0 --model-epochs 5"
    )
    # Everything that is not said there is as the preset paper has it, which is their recipe.
    config = run(TRAIN)
    ours = TrainConfig().replace(
        a=Path("datasets/maps"),
        out=Path("checkpoints/maps_cyclegan"),
        workers=4,
        log_steps=100,
        num_validation=0,
        model_epochs=5,
    )
    assert config == ours
    assert (config.model.norm, config.model.blocks, config.model.dropout) == ("instance", 9, False)
    assert (config.identity_weight, config.pool_size, config.data.resolved_load_size) == (0.5, 50, 286)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("--netG resnet_6blocks --ngf 32", {"generator": "resnet", "blocks": 6, "width": 32}),
        ("--netG unet_128", {"generator": "unet", "depth": 7}),
        ("--netG unet_256", {"generator": "unet", "depth": 8}),
        ("--netD n_layers --n_layers_D 4 --ndf 32", {"discriminator_layers": 4, "discriminator_width": 32}),
        ("--netD basic --n_layers_D 5", {"discriminator": "patch", "discriminator_layers": 3}),
        ("--netD pixel", {"discriminator": "pixel"}),
        ("--norm syncbatch", {"norm": "batch"}),
        ("--norm none --no_dropout", {"norm": "none", "dropout": False}),
        ("--init_type kaiming --init_gain 0.1", {"init": "kaiming", "init_gain": 0.1}),
        ("--input_nc 1 --output_nc 3", {"channels_a": 1, "channels_b": 3}),
        ("--gan_mode wgangp", {"adversarial": "wgan-gp", "gradient_penalty_weight": 10.0}),
        ("--gan_mode vanilla", {"adversarial": "vanilla"}),
        ("--no_lsgan", {"adversarial": "vanilla"}),
        (
            "--lambda_A 5 --lambda_B=7 --lambda_identity 0",
            {"cycle_weight_a": 5, "cycle_weight_b": 7, "identity_weight": 0},
        ),
        ("--lr 0.0001 --beta1 0.9 --pool_size 0", {"learning_rate": 1e-4, "beta1": 0.9, "pool_size": 0}),
        ("--preprocess scale_width_and_crop --load_size 512 --crop_size 360", {"preprocess": "scale-width-and-crop"}),
        ("--preprocess scale_width --load_size 300", {"preprocess": "scale-width", "resolved_load_size": 300}),
        ("--preprocess none", {"preprocess": "none"}),
        # Theirs stays 286 whatever the crop is, ours follows it; a crop beyond the image is not made there.
        ("--crop_size 128", {"crop_size": 128, "resolved_load_size": 286}),
        ("--load_size 143 --crop_size 128", {"load_size": None, "resolved_load_size": 143}),
        ("--load_size 200", {"crop_size": 200, "resolved_load_size": 200}),
        ("--no_flip --serial_batches --max_dataset_size 40", {"flip": False, "shuffle": False, "max_images": 40}),
        ("--num_threads 0", {"workers": 0}),
        ("--gpu_ids -1", {"device": "cpu"}),
        ("--gpu_ids 0", {"device": "auto"}),
        ("--gpu_ids=2", {"device": "cuda:2"}),
        # Theirs count images, ours steps.
        ("--batch_size 4", {"batch_size": 4, "log_steps": 25, "sample_steps": 250, "checkpoint_steps": 1250}),
        ("--display_freq 200 --print_freq 10", {"sample_steps": 200, "log_steps": 10}),
        ("--save_epoch_freq 20 --save_latest_freq 800", {"model_epochs": 20, "checkpoint_steps": 800}),
        ("--save_by_iter", {"keep_checkpoints": 1_000_000}),
        ("--niter 10 --niter_decay 0 --batchSize 2", {"epochs": 10.0, "decay_share": 0.0, "batch_size": 2}),
        ("--use_wandb --wandb_project_name 'my maps'", {}),
        ("--suffix {netG}_size{load_size}", {"out": Path("checkpoints/maps_cyclegan_resnet_9blocks_size286")}),
        ("--phase val", {"a": Path("datasets/maps/valA"), "b": Path("datasets/maps/valB")}),
        # A is what they call real_A, so channels and weights stay where they are.
        ("--direction BtoA --input_nc 1", {"a": Path("datasets/maps/trainB"), "b": Path("datasets/maps/trainA")}),
        ("--display_id 0 --no_html --verbose", {}),
        # Like theirs, our parser of theirs takes the beginning of a name.
        ("--batch 3 --lambda_i 0.1", {"batch_size": 3, "identity_weight": 0.1}),
    ],
)
def test_options_of_training_become_equivalent_settings(run, theirs, ours):
    config = run(f"{TRAIN} {theirs}")
    for name, value in ours.items():
        place = next(part for part in (config, config.model, config.data) if hasattr(part, name))
        assert getattr(place, name) == value, name


def rates_there(policy, epochs, first, n_epochs, decay, drop=50):
    """The rate of each epoch by torch's own schedulers, with the numbers of their get_scheduler."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = {
        "linear": lambda: torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda epoch: 1 - max(0, epoch + first - n_epochs) / (decay + 1)
        ),
        "step": lambda: torch.optim.lr_scheduler.StepLR(optimizer, drop, 0.1),
        "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_epochs, 0),
    }[policy]()
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(epochs):
            rates.append(optimizer.param_groups[0]["lr"])
            scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("policy", "n_epochs", "decay", "first", "drop"),
    [
        ("linear", 100, 100, 1, None),
        ("linear", 3, 7, 1, None),
        ("linear", 0, 5, 1, None),
        ("linear", 20, 0, 1, None),
        ("linear", 100, 33, 40, None),
        ("linear", 100, 100, 101, None),
        ("linear", 100, 100, 151, None),
        ("linear", 100, 100, 200, None),
        ("step", 100, 100, 1, 50),
        ("step", 100, 100, 1, 30),
        ("step", 100, 50, 31, 7),
        ("step", 10, 10, 1, 20),
        ("cosine", 20, 0, 1, None),
    ],
)
def test_every_epoch_has_the_learning_rate_of_the_reference(run, policy, n_epochs, decay, first, drop):
    command = (
        f"{TRAIN} --lr 1 --lr_policy {policy} --n_epochs {n_epochs} --n_epochs_decay {decay} --epoch_count {first}"
    )
    config = run(command + (f" --lr_decay_iters {drop}" if drop else ""))
    epochs = n_epochs + decay + 1 - first
    assert config.epochs == epochs
    there = rates_there(policy, epochs, first, n_epochs, decay, drop)
    here = [learning_rate_at(config, float(epoch), config.epochs) for epoch in range(epochs)]
    assert here == pytest.approx(there, rel=1e-9)


def test_the_plateau_schedule_of_the_reference_falls_in_any_case():
    # What the refusal says: the number that it watches is always 0.
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-4)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "min", factor=0.2, threshold=0.01, patience=5)
    rates = []
    for _ in range(42):
        scheduler.step(0)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[::6] == pytest.approx([2e-4 * 0.2**k for k in range(7)])
    assert rates[-1] < 1e-7


def test_training_goes_on_from_their_checkpoints(run):
    command = f"{TRAIN} --continue_train --epoch_count 151 --epoch 150"
    start, train = printed(command)
    assert start == "cyclegan import ./checkpoints/maps_cyclegan --out models/maps_cyclegan_150 --epoch 150"
    # Their folder holds their files, so the run has one of its own.
    assert "--out runs/maps_cyclegan" in train
    assert train.endswith("--init-from models/maps_cyclegan_150")
    assert run(command).epochs == 50
    assert any("optimisers" in note for note in translate_reference(command).notes)

    Path("checkpoints/maps_cyclegan").mkdir(parents=True)
    Path("checkpoints/maps_cyclegan/config.toml").touch()
    (line,) = printed(command)  # ours by now, which knows its own epoch
    assert line.endswith("--resume")
    assert "--out ./checkpoints/maps_cyclegan" in line
    assert run(command).epochs == 200


@pytest.fixture
def continued(tmp_path, run):
    """Their checkpoint of 150 epochs, and the run that a translated --continue_train --epoch_count 151 made of it."""
    (tmp_path / "checkpoints/maps_cyclegan").mkdir(parents=True)
    (tmp_path / "checkpoints/maps_cyclegan/latest_net_G_A.pth").touch()
    config = run(f"{TRAIN} --continue_train --epoch_count 151")
    config = config.replace(init_from=Path("models/maps_cyclegan").resolve())
    (tmp_path / "runs/maps_cyclegan").mkdir(parents=True)
    (tmp_path / "runs/maps_cyclegan/config.toml").write_text(to_toml(config), encoding="utf-8")
    return config


@pytest.mark.usefixtures("continued")
def test_after_a_continued_training_test_takes_the_weights_that_it_made():
    found = translate_reference(TEST)
    assert [words[:3] for words in found.commands] == [("cyclegan", "translate", "runs/maps_cyclegan")] * 2
    assert any("is runs/maps_cyclegan, not the checkpoint in ./checkpoints" in note for note in found.notes)
    # One of its epochs, if it has that; else one of theirs. It counts from where it began, and a note says so.
    Path("runs/maps_cyclegan/models/epoch_0005").mkdir(parents=True)
    found = translate_reference(f"{TEST} --epoch 5")
    assert [words[2] for words in found.commands] == ["runs/maps_cyclegan/models/epoch_0005"] * 2
    assert any("counts epochs and steps from where it began" in note for note in found.notes)
    found = translate_reference(f"{TEST} --epoch 100")
    assert " ".join(found.commands[0]) == (
        "cyclegan import ./checkpoints/maps_cyclegan --out models/maps_cyclegan_100 --epoch 100"
    )
    assert any("is checkpoint 100 of ./checkpoints/maps_cyclegan, not runs/maps" in note for note in found.notes)


@pytest.mark.parametrize("options", ["--epoch_count 151", "--epoch_count 180", "", "--epoch 150 --epoch_count 151"])
def test_training_that_was_continued_goes_on_where_it_is_by_now(continued, run, options):
    found = translate_reference(f"{TRAIN} --continue_train {options}")
    ((*_, resume),) = found.commands
    assert resume == "--resume"
    assert any(
        "runs/maps_cyclegan, a run of this program" in note and "maps_cyclegan is not used again" in note
        for note in found.notes
    )
    assert not any("start anew" in note for note in found.notes)
    # Its length and rates stay, so that nothing is trained twice or left out; so does where it began.
    config = run(f"{TRAIN} --continue_train {options}")
    assert config.replace(init_from=None) == continued.replace(init_from=None)
    assert config.init_from == Path("models/maps_cyclegan")


def test_a_continued_command_takes_its_own_options_and_not_those_of_the_run(run, tmp_path):
    out = tmp_path / "checkpoints/maps_cyclegan"
    out.mkdir(parents=True)
    began = run(f"{TRAIN} --lambda_A 5 --no_flip --load_size 300 --lr 0.001")
    (out / "config.toml").write_text(to_toml(began), encoding="utf-8")
    (words,) = translate_reference(f"{TRAIN} --continue_train --lambda_B 7").commands
    parsed = _parser(list(words[1:])).parse_args(words[1:])
    given = {name: value for name, value in vars(parsed).items() if name in field_sections() and name != "preset"}
    resumed = resumed_config(began, {"a": parsed.paths[0], **given}, preset=parsed.preset)
    assert resumed.data.resolved_load_size == 286
    new = run(f"{TRAIN} --lambda_B 7")
    assert resumed == new.replace(data=new.data.replace(load_size=286))


def test_test_folders_follow_the_direction(run, tmp_path):
    for name in ("testA", "testB"):
        (tmp_path / "datasets/maps" / name).mkdir(parents=True)
    config = run(f"{TRAIN} --direction BtoA")
    assert (config.test_a, config.test_b) == (Path("datasets/maps/testB"), Path("datasets/maps/testA"))


def test_both_directions_are_translated_by_an_imported_model():
    lines = printed(TEST)
    assert lines[0] == "cyclegan import ./checkpoints/maps_cyclegan --out models/maps_cyclegan"
    parsed = [parse(shlex.split(line)[1:]) for line in lines[1:]]
    assert [str(each.paths[0]) for each in parsed] == ["datasets/maps/testA", "datasets/maps/testB"]
    assert [each.direction for each in parsed] == ["a2b", "b2a"]
    assert [each.out.name for each in parsed] == ["fake_B", "fake_A"]
    for each in parsed:
        assert str(each.run_directory) == "models/maps_cyclegan"
        assert (each.max_images, each.short_side, each.scale_width, each.device) == (50, 256, None, "auto")
        assert each.out.parent == Path("results/maps_cyclegan/test_latest")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", {"direction": "a2b", "out": Path("results/h2z/test_latest/fake_B")}),
        ("--model test --model_suffix _B --no_dropout", {"direction": "b2a"}),
        ("--num_test 7 --gpu_ids -1", {"max_images": 7, "device": "cpu"}),
        ("--preprocess none", {"short_side": None, "scale_width": None}),
        ("--preprocess scale_width --load_size 512", {"short_side": None, "scale_width": 512}),
        ("--load_size 400 --crop_size 400 --eval --aspect_ratio 1.5", {"short_side": 400}),
        ("--epoch 5 --results_dir out", {"run_directory": Path("models/h2z_5"), "out": Path("out/h2z/test_5/fake_B")}),
        ("--load_iter 800", {"run_directory": Path("models/h2z_iter_800")}),
        ("--max_dataset_size 9", {"max_images": 9}),
    ],
)
def test_one_direction_alone(options, expected):
    start, line = printed(f"python test.py --dataroot h2z/testA --name h2z {options}")
    assert start.startswith("cyclegan import ./checkpoints/h2z --out models/h2z")
    parsed = parse(shlex.split(line)[1:])
    assert [str(path) for path in parsed.paths] == ["h2z/testA"]
    for name, value in expected.items():
        assert getattr(parsed, name) == value, name


def test_a_run_of_ours_needs_no_import(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("checkpoints/maps_cyclegan").mkdir(parents=True)
    Path("checkpoints/maps_cyclegan/config.toml").touch()
    assert [line.split()[2] for line in printed(TEST)] == ["./checkpoints/maps_cyclegan"] * 2
    kept = [line.split()[2] for line in printed(f"{TEST} --epoch 15")]
    assert kept == ["./checkpoints/maps_cyclegan/models/epoch_0015"] * 2


def test_an_imported_model_is_named_as_the_program_names_it():
    if "import" not in COMMANDS:
        pytest.skip("there is no `cyclegan import` yet")
    parsed = parse(shlex.split(printed(f"{TEST} --epoch 5")[0])[1:])
    assert str(parsed.out) == "models/maps_cyclegan_5"


@pytest.mark.parametrize(
    "command",
    [
        "python3 -u ./train.py --dataroot ./datasets/maps --name maps_cyclegan",
        "!python train.py --dataroot=./datasets/maps --name='maps_cyclegan' --model=cycle_gan",
        "torchrun --nproc_per_node=1 train.py --dataroot ./datasets/maps --name maps_cyclegan",
        "$ python train.py \\\n  --dataroot ./datasets/maps \\\n  --name maps_cyclegan",
        "python train.py ^\r\n --dataroot ./datasets/maps ^\r\n --name maps_cyclegan",
        "python .\\train.py --dataroot .\\datasets\\maps --name maps_cyclegan",
        "  python /opt/cyclegan/train.py --datar './datasets/maps' --nam maps_cyclegan --n_epochs_d 100 ",
        "python -m torch.distributed.run --nproc_per_node 1 train.py --dataroot ./datasets/maps --name maps_cyclegan",
    ],
)
def test_the_command_may_be_written_as_people_write_it(command):
    assert printed(command) == printed(TRAIN)


def test_environment_variables_and_shell_quoting_are_kept():
    command = "CUDA_VISIBLE_DEVICES=1 python train.py --dataroot '$DATA/my maps' --name 'my maps' --checkpoints_dir ~/c"
    (line,) = printed(command)
    assert line.startswith("CUDA_VISIBLE_DEVICES=1 cyclegan train \"$DATA/my maps\" --out ~/'c/my maps' ")
    (line,) = printed("env NOTE='a b' EMPTY= python train.py --dataroot x")
    assert line.startswith("NOTE='a b' EMPTY='' cyclegan train x ")
    # A shell gets back the words that were meant.
    (line,) = printed("python train.py --dataroot 'a b;c' --name \"it's\"")
    shown = subprocess.run(
        ["sh", "-c", line.replace("cyclegan", "printf '%s|'", 1)], capture_output=True, text=True, check=True
    )
    assert shown.stdout.split("|")[:4] == ["train", "a b;c", "--out", "./checkpoints/it's"]


@pytest.mark.parametrize(
    ("command", "reasons"),
    [
        (f"{TRAIN} --model pix2pix", ["pix2pix is not CycleGAN.*learn from pairs"]),
        (f"{TRAIN} --model test", ["test.py alone"]),
        (f"{TRAIN} --dataset_mode aligned", ["aligned is not for unpaired"]),
        (f"{TRAIN} --lr_policy plateau", ["always 0 there.*Use linear"]),
        (f"{TRAIN} --lr_policy cosine", ["rises again.*n_epochs_decay 0"]),
        (f"{TRAIN} --gpu_ids 0,1", ["asks for 2 GPUs.*--gpu_ids 0,"]),
        (f"{TRAIN} --gpu_ids one", ["'one'; expected numbers"]),
        (f"torchrun --nproc_per_node=4 {TRAIN.removeprefix('python ')}", ["several processes"]),
        (f"{TRAIN} --lambda_L1 10", ["learns from pairs"]),
        (f"{TRAIN} --batchsize 4", ["no option --batchsize; did you mean --batch_size"]),
        (f"{TRAIN} --num_test 4", ["--num_test is an option of test.py"]),
        (f"{TEST} --lr 4", ["--lr is an option of train.py"]),
        (f"{TRAIN} --n_ep 4", ["may be --n_epochs or --n_epochs_decay"]),
        (f"{TRAIN} --batch_size four", ["'four'; expected a whole number"]),
        (f"{TRAIN} --batch_size", ["--batch_size needs a value"]),
        (f"{TRAIN} --no_flip=1", ["takes no value"]),
        (f"{TRAIN} stray", ["'stray' belongs to no option"]),
        (f"{TRAIN} | tee log.txt", ["'|' belongs to the shell"]),
        (f"{TRAIN} && echo done", ["'&&' belongs to the shell"]),
        (f"{TRAIN} --netG resnet_12blocks", ["expected one of: resnet_9blocks"]),
        (f"{TRAIN} --direction b2a", ["expected one of: AtoB, BtoA"]),
        (f"{TRAIN} --epoch_count 201", ["leave something to train"]),
        (f"{TRAIN} --suffix {{size}}", ["no such option"]),
        (f"{TRAIN} --batch_size 4 --preprocess none", ["images of one size"]),
        (f"{TEST} --model_suffix _A", ["goes with --model test"]),
        (f"{TEST} --model test --dataset_mode unaligned", ["single does"]),
        ("python train.py --name x", ["no --dataroot"]),
        ("cyclegan train photos/", ["neither train.py nor test.py"]),
        (f"{TRAIN} --name 'x", ["cannot be read"]),
        # All at once.
        (f"{TRAIN} --gpu_ids 0,1 --foo --model pix2pix", ["2 GPUs", "no option --foo", "not CycleGAN"]),
    ],
)
def test_unsupported_options_are_refused_with_every_reason(command, reasons):
    with pytest.raises(InputError) as error:
        translate_reference(command)
    for reason in reasons:
        assert re.search(reason, str(error.value))
    assert len(str(error.value).splitlines()) == len(reasons)


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ("--gan_mode wgangp", "here the penalty works"),
        ("--display_id 0", "no visdom"),
        ("--n_layers_D 5", "does nothing in the reference"),
        ("--lr_decay_iters 10", "does nothing in the reference"),
        ("--epoch 5", "--epoch is left out"),
        ("--wandb_project_name x", "does nothing in the reference"),
        ("--crop_size 512", "nothing is cropped"),
        ("--direction BtoA", "trainB is domain A here"),
        ("--preprocess crop", "padded with black"),
    ],
)
def test_mistakes_that_the_reference_ignores_are_reported(options, note):
    assert any(note in each for each in translate_reference(f"{TRAIN} {options}").notes)


@pytest.mark.parametrize(
    ("value", "about", "not_about"),
    [
        ("crop", "padded with black", "resized"),
        ("scale_width", "stretched", "black"),
        ("scale_width_and_crop", "refused here", "black"),
        ("none", "resized", "crop"),
    ],
)
def test_the_note_of_an_option_is_about_the_value_that_was_given(value, about, not_about):
    (note,) = [note for note in translate_reference(f"{TRAIN} --preprocess {value}").notes if "--preprocess" in note]
    assert about in note
    assert not_about not in note
    assert not any("--preprocess" in note for note in translate_reference(f"{TRAIN} --load_size 300").notes)


# Everything that can be told of at once.
NOTED_TRAIN = f"""{TRAIN} --gan_mode wgangp --preprocess crop --input_nc 1 --direction BtoA --n_layers_D 5
--lr_decay_iters 10 --epoch 5 --load_iter 8 --wandb_project_name x --display_freq 100 --update_html_freq 200
--display_id 0 --display_port 80 --display_ncols 2 --display_env e --display_server s --display_winsize 9 --no_html
--verbose"""
NOTED_TEST = f"{TEST} --load_size 300 --netG unet_128 --ngf 32 --norm batch --eval --ntest 5 --aspect_ratio 2 --verbose"


@pytest.mark.parametrize("command", [NOTED_TRAIN, NOTED_TEST])
def test_notes_are_short_name_the_option_and_appear_once(command):
    notes = translate_reference(command).notes
    # One reason may be that of several options.
    told = [re.sub(r"--\w+|,| and | is | are ", "", note) for note in notes]
    assert len(set(told)) == len(told) >= 6
    given = re.findall(r"--\w+", command)
    for note in notes:
        assert len(note) < 260, note
        assert note.startswith("--num-validation 0 ") or any(name in note for name in given), note
        assert not re.search(r"\bthere\b(?! is no)", note, re.IGNORECASE), note  # who reads one note asks: where?
    visdom = [note for note in notes if "visdom" in note]
    assert len(visdom) == command.count("--display_id")
    assert all(
        "--display_id, --display_server" in note and "and --display_ncols are left out" in note for note in visdom
    )


def test_the_command_line_prints_the_command_alone_and_trains_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["train", "--from-reference", TRAIN])
    shown = capsys.readouterr()
    assert shown.out.splitlines() == printed(TRAIN)
    assert "note: " in shown.err
    assert list(tmp_path.iterdir()) == []
    for words in (["--from-reference", f"{TRAIN} --model pix2pix"], ["--from-reference", TRAIN, "--steps", "3"]):
        with pytest.raises(SystemExit) as stop:
            main(["train", *words])
        assert stop.value.code == 2
        assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "end", ["> log.txt 2>&1 &", "&> log.txt &", ">log.txt", "2> e.txt > log", ">> a 2>> b", "1>log </dev/null", "&"]
)
def test_where_the_output_of_a_training_in_the_background_goes_is_left_out(end):
    plain = str(translate_reference(f"{TRAIN} --lambda_A 5"))
    assert str(translate_reference(f"nohup {TRAIN} --lambda_A 5 {end}")) == plain

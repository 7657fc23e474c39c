"""Every option of the train and test commands of junyanz/pytorch-CycleGAN-and-pix2pix, and what it is here.

One table: docs/from-the-reference.md shows it, and `reference_equivalent` translates whole commands by it.
"""

from dataclasses import dataclass
from typing import Any, Literal

from cyclegan.config import TrainConfig, flat_values

Kind = Literal["text", "int", "float", "flag"]
Status = Literal["same", "other name", "other meaning", "not needed", "refused"]

# The version of 2018 to 2024; that of 2025 lacks these options, and has all others that are not older still.
UNTIL_2024 = "until 2024"


@dataclass(frozen=True)
class Option:
    """One option of the reference, as its cycle_gan model sees it.

    names: without dashes, the newest first. command: train, test or both. default: theirs, of the model cycle_gan
    (None: there is none). setting: ours that has the value, if it is one setting. words: their values and ours, where
    there is a fixed set. ours: how it is written here, for people. differs: what differs and why, in whole sentences.
    note: the end of "--name is left out: ...", which is printed when it is given and is not needed. value_notes: what
    is printed with a value in training, where `differs` is about several.
    """

    names: tuple[str, ...]
    status: Status
    ours: str
    differs: str = ""
    kind: Kind = "text"
    default: Any = None
    default_test: Any = None
    command: Literal["train", "test", "both"] = "both"
    setting: str | None = None
    words: tuple[tuple[str, str], ...] = ()
    version: str = ""
    note: str = ""
    value_notes: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """The newest name, by which a value is kept."""
        return self.names[0]

    def in_command(self, command: str) -> bool:
        """Whether train.py or test.py has it. command: train or test."""
        return self.command in (command, "both")

    def default_of(self, command: str) -> Any:
        """Their default in train or in test."""
        return self.default_test if command == "test" and self.default_test is not None else self.default


_CHANNELS = (
    "16-bit and many-channel images keep their depth here; there every image becomes 8-bit RGB, or grey for 1, and "
    "other numbers fail."
)
_STEPS = (
    "Theirs counts images, ours steps: it is divided by the batch size. There, a batch size that does not divide it "
    "makes it rarer."
)
_PICTURES = (
    "The sample grids are files, in the report and in TensorBoard; no server is needed. Theirs counts images, ours "
    "steps. Where both were given, the smaller one is taken."
)
_NO_VISDOM = (
    "No visdom: the curves and pictures are in the report and in TensorBoard, which need no server while training."
)

_TEMPLATE = "Of the template for one's own models and datasets."
_VISDOM: tuple[tuple[str, Kind, Any], ...] = (
    ("display_id", "int", 1),
    ("display_server", "text", "http://localhost"),
    ("display_env", "text", "main"),
    ("display_port", "int", 8097),
    ("display_ncols", "int", 4),
)

OPTIONS: tuple[Option, ...] = (
    # Data and places.
    Option(
        ("dataroot",),
        "other name",
        "`ROOT`, or `A B`",
        "The first argument: a root that holds trainA and trainB, or two folders of any names. In `translate`, the "
        "images.",
    ),
    Option(
        ("name",),
        "other name",
        "`--out DIR/NAME`",
        "Their two options are one directory here. To translate or evaluate, a run is named by that path.",
        default="experiment_name",
    ),
    Option(
        ("checkpoints_dir",),
        "other name",
        "`--out DIR/NAME`",
        "A folder of checkpoints of the reference itself is read by `cyclegan import`.",
        default="./checkpoints",
    ),
    Option(
        ("suffix",),
        "other name",
        "`--out DIR/NAME`",
        "Written out: `{netG}` and the like are replaced by their values.",
        default="",
    ),
    Option(
        ("phase",),
        "other name",
        "`A B`",
        "Which folders are read. Any two folders can be named; of a root, `train` reads trainA and trainB and shows "
        "testA and testB in its sample grids.",
        default="train",
        default_test="test",
    ),
    Option(
        ("direction", "which_direction"),
        "other name",
        "`B A` for BtoA",
        "The two folders change places; A is then what their code calls real_A. A trained run translates either way, "
        "by `translate --direction a2b` or `b2a`.",
        default="AtoB",
    ),
    Option(
        ("model",),
        "same",
        "CycleGAN alone",
        "`cycle_gan`; in test also `test`, one direction alone, which is the default there. pix2pix, colorization and "
        "template are refused: they learn from pairs or are other methods.",
        default="cycle_gan",
        default_test="test",
    ),
    Option(
        ("dataset_mode",),
        "same",
        "unpaired alone",
        "`unaligned`; `single` with `--model test`. aligned, colorization and template are refused: they are for "
        "paired methods.",
        default="unaligned",
    ),
    Option(
        ("max_dataset_size",),
        "other name",
        "`--max-images`",
        "The first by name. There they are the first that the file system lists, which differs between machines.",
        "int",
        setting="max_images",
    ),
    Option(
        ("serial_batches",),
        "other name",
        "`--no-shuffle`",
        "A and B by name. When shuffled, there B is drawn with replacement, so that in each pass some images come "
        "twice and some never; here every image of both comes once in each pass over its folder.",
        "flag",
        False,
    ),
    Option(
        ("num_threads", "nThreads"),
        "other name",
        "`--workers`",
        "0 loads in the training process, which keeps decoded images in memory. The batches are the same with any "
        "number; there they are not. test.py takes 0 whatever is given.",
        "int",
        4,
        setting="workers",
    ),
    Option(
        ("batch_size", "batchSize"),
        "same",
        "`--batch-size`",
        "The last batch of a pass is filled up from the next pass here; there it is smaller. test.py takes 1 whatever "
        "is given.",
        "int",
        1,
    ),
    Option(
        ("preprocess", "resize_or_crop"),
        "same",
        "`--preprocess`",
        "What differs: images smaller than the crop are refused here; there they are padded with black, stretched, "
        "or stay small. Sizes that a network cannot take are mirrored outwards here; there `none` resizes them. A "
        "misspelt word there silently does nothing. In test, `crop` cuts a random part of each image there; here "
        "whole images are translated.",
        default="resize_and_crop",
        setting="preprocess",
        words=(
            ("resize_and_crop", "resize-and-crop"),
            ("crop", "crop"),
            ("scale_width", "scale-width"),
            ("scale_width_and_crop", "scale-width-and-crop"),
            ("none", "none"),
        ),
        value_notes=(
            (
                "crop",
                "images smaller than the crop are refused here; in the reference they stay small or are padded with "
                "black.",
            ),
            (
                "scale_width",
                "images always keep their shape here; in the reference those that would be lower than --crop_size are "
                "stretched to that height.",
            ),
            (
                "scale_width_and_crop",
                "images that are lower than the crop at that width are refused here; in the reference they are "
                "stretched to its height.",
            ),
            (
                "none",
                "images of a size that the networks cannot take are mirrored outwards here; in the reference they are "
                "resized.",
            ),
        ),
    ),
    Option(
        ("load_size", "loadSize"),
        "same",
        "`--load-size`; in `translate` `--short-side`, `--scale-width`",
        "Here it follows the crop size in the proportion 286 to 256 unless it is given; there it stays 286. In test "
        "its default is 256: there every image is squashed to a square and stays one; here the shorter side is "
        "brought to that size, the shape is kept, and the result has the size of its input.",
        "int",
        286,
        256,
        setting="load_size",
    ),
    Option(
        ("crop_size", "fineSize"),
        "same",
        "`--crop-size`",
        "Larger than the load size it is silently not applied there; here that is refused, and the translated "
        "command has the load size for both.",
        "int",
        256,
        setting="crop_size",
    ),
    Option(("no_flip",), "same", "`--no-flip`", "test.py never mirrors, nor does `translate`.", "flag", False),
    # Networks.
    Option(
        ("input_nc",),
        "other name",
        "`--channels-a`",
        _CHANNELS,
        "int",
        3,
        setting="channels_a",
    ),
    Option(("output_nc",), "other name", "`--channels-b`", _CHANNELS, "int", 3, setting="channels_b"),
    Option(
        ("netG", "which_model_netG"),
        "other name",
        "`--generator`, `--blocks`, `--depth`",
        "resnet_9blocks: resnet with 9 blocks; resnet_6blocks: with 6; unet_256: unet of depth 8; unet_128: of depth "
        "7. Any number of blocks and any depth from 5 on can be had here.",
        default="resnet_9blocks",
        words=(
            ("resnet_9blocks", "resnet blocks 9"),
            ("resnet_6blocks", "resnet blocks 6"),
            ("unet_256", "unet depth 8"),
            ("unet_128", "unet depth 7"),
        ),
    ),
    Option(("ngf",), "other name", "`--width`", "", "int", 64, setting="width"),
    Option(
        ("netD", "which_model_netD"),
        "other name",
        "`--discriminator`, `--discriminator-layers`",
        "basic: patch with 3 layers; n_layers: patch with as many as n_layers_D says; pixel: pixel.",
        default="basic",
        words=(("basic", "patch"), ("n_layers", "patch"), ("pixel", "pixel")),
    ),
    Option(
        ("n_layers_D",),
        "other name",
        "`--discriminator-layers`",
        "Without `--netD n_layers` it does nothing there.",
        "int",
        3,
    ),
    Option(("ndf",), "other name", "`--discriminator-width`", "", "int", 64, setting="discriminator_width"),
    Option(
        ("norm",),
        "same",
        "`--norm`",
        "`syncbatch` (2025) is `batch` on one device. With batch norm their test.py uses the statistics of the test "
        "image unless --eval is given.",
        default="instance",
        setting="norm",
        words=(("instance", "instance"), ("batch", "batch"), ("none", "none"), ("syncbatch", "batch")),
    ),
    Option(
        ("init_type",),
        "other name",
        "`--init`",
        default="normal",
        setting="init",
        words=tuple((word, word) for word in ("normal", "xavier", "kaiming", "orthogonal")),
    ),
    Option(("init_gain",), "same", "`--init-gain`", "", "float", 0.02, setting="init_gain"),
    Option(
        ("no_dropout",),
        "same",
        "`--no-dropout`",
        "cycle_gan sets it, and no option there unsets it: CycleGAN cannot have dropout there. Here `--dropout` does "
        "it. With `--model test` it must be typed there, or the weights do not load; here a model knows what it is "
        "made of.",
        "flag",
        True,
    ),
    # Losses and optimisation.
    Option(
        ("gan_mode",),
        "other name",
        "`--adversarial`",
        "wgangp is wgan-gp. There no gradient penalty is ever added in cycle_gan, so it is a critic without a "
        "constraint; here the penalty works, with `--gradient-penalty-weight 10`. `hinge` exists as well.",
        default="lsgan",
        command="train",
        setting="adversarial",
        words=(("lsgan", "lsgan"), ("vanilla", "vanilla"), ("wgangp", "wgan-gp")),
    ),
    Option(
        ("no_lsgan",),
        "other name",
        "`--adversarial vanilla`",
        "Of the first versions; later ones say `--gan_mode vanilla`.",
        "flag",
        False,
        command="train",
        version="until 2018",
    ),
    Option(
        ("lambda_A",), "other name", "`--cycle-weight-a`", "", "float", 10.0, command="train", setting="cycle_weight_a"
    ),
    Option(
        ("lambda_B",), "other name", "`--cycle-weight-b`", "", "float", 10.0, command="train", setting="cycle_weight_b"
    ),
    Option(
        ("lambda_identity", "identity"),
        "other name",
        "`--identity-weight`",
        "Relative to the cycle weights in both. Domains with different numbers of channels have no identity term here; "
        "there the program stops.",
        "float",
        0.5,
        command="train",
        setting="identity_weight",
    ),
    Option(("pool_size",), "same", "`--pool-size`", "", "int", 50, command="train", setting="pool_size"),
    Option(("lr",), "other name", "`--learning-rate`", "", "float", 2e-4, command="train", setting="learning_rate"),
    Option(
        ("beta1",),
        "same",
        "`--beta1`",
        "The other one, 0.999, is fixed there and `--beta2` here.",
        "float",
        0.5,
        command="train",
        setting="beta1",
    ),
    Option(
        ("n_epochs", "niter"),
        "other name",
        "`--epochs`, `--decay-share`",
        "Ours is the whole length, both parts together; a run can also be as long as `--steps` or `--minutes`.",
        "int",
        100,
        command="train",
    ),
    Option(
        ("n_epochs_decay", "niter_decay"),
        "other name",
        "`--decay-share`",
        "The part of the run over which the rate falls. In most versions until 2024 the rate falls one epoch early "
        "there, and the whole last epoch is trained at rate 0; here, as in 2025, no epoch is.",
        "int",
        100,
        command="train",
    ),
    Option(
        ("lr_policy",),
        "other name",
        "`--schedule`",
        "linear: the same. step: `--drop-share`. cosine: there it reaches 0 after n_epochs and then rises to the "
        "full rate again, so only `--n_epochs_decay 0` is translated; here it changes with every step, there with "
        "every epoch. plateau: refused. There it watches a number that is always 0, so the rate falls to a fifth "
        "every 6 epochs and training stands still after about 40.",
        default="linear",
        command="train",
        words=(("linear", "linear"), ("lambda", "linear"), ("step", "step"), ("cosine", "cosine"), ("plateau", "")),
    ),
    Option(
        ("lr_decay_iters",),
        "other name",
        "`--drop-share`",
        "Epochs (not iterations, as its name says) between drops to a tenth, with `--lr_policy step` alone; here as "
        "a share of the run.",
        "int",
        50,
        command="train",
    ),
    # Going on, and what is kept.
    Option(
        ("continue_train",),
        "other meaning",
        "`cyclegan import`, then `--init-from`",
        "Their checkpoints hold neither the optimisers nor the pools, so both start anew, as they do there. A run "
        "that was made here goes on exactly, by the same command again. Theirs goes on as `runs/NAME`, which "
        "further commands for NAME then mean.",
        "flag",
        False,
        command="train",
    ),
    Option(
        ("epoch_count",),
        "other name",
        "`--epochs`, `--decay-share`",
        "The epochs that are left, at the rates that they would have had. Here a run counts its own epochs.",
        "int",
        1,
        command="train",
    ),
    Option(
        ("epoch", "which_epoch"),
        "other name",
        "`cyclegan import --epoch`, or `RUN/models/epoch_0005`",
        "Without --continue_train it does nothing in training there.",
        default="latest",
    ),
    Option(
        ("load_iter",),
        "other name",
        "`cyclegan import --epoch iter_N`",
        "Without --continue_train it does nothing in training there.",
        "int",
        0,
    ),
    Option(
        ("save_latest_freq",),
        "other name",
        "`--checkpoint-steps`",
        _STEPS,
        "int",
        5000,
        command="train",
        setting="checkpoint_steps",
    ),
    Option(
        ("save_epoch_freq",),
        "other name",
        "`--model-epochs`",
        "Kept for good in RUN/models/ in both. Here every one holds both generators and their averages, and none of "
        "them is needed to go on.",
        "int",
        5,
        command="train",
        setting="model_epochs",
    ),
    Option(
        ("save_by_iter",),
        "other name",
        "`--keep-checkpoints`",
        "Checkpoints have their step in their name here; the newest 3 are kept unless more are asked for.",
        "flag",
        False,
        command="train",
    ),
    # What is shown.
    Option(("print_freq",), "other name", "`--log-steps`", _STEPS, "int", 100, command="train", setting="log_steps"),
    Option(
        ("display_freq",),
        "other meaning",
        "`--sample-steps`",
        _PICTURES,
        "int",
        400,
        command="train",
    ),
    Option(
        ("update_html_freq",),
        "other name",
        "`--sample-steps`",
        _PICTURES,
        "int",
        1000,
        command="train",
        setting="sample_steps",
    ),
    Option(
        ("no_html",),
        "not needed",
        "`report.html`",
        "One page for the whole run, written at every snapshot.",
        "flag",
        False,
        command="train",
        note="report.html is one page for the whole run, and is always written.",
    ),
    *(
        Option(
            (n,),
            "not needed",
            "`report.html`, TensorBoard",
            _NO_VISDOM,
            kind,
            default,
            None,
            "train",
            version=UNTIL_2024,
            note="there is no visdom here; the curves and pictures are in the report and in TensorBoard.",
        )
        for n, kind, default in _VISDOM
    ),
    Option(
        ("display_winsize",),
        "not needed",
        "`report.html`",
        "The pictures of the page have the size that they were made at.",
        "int",
        256,
        note="pictures are shown here at the size that they were made at.",
    ),
    Option(
        ("use_wandb",),
        "other name",
        "`--wandb PROJECT`",
        "TensorBoard files and log.jsonl are written in any case.",
        "flag",
        False,
    ),
    Option(("wandb_project_name",), "other name", "`--wandb PROJECT`", default="CycleGAN-and-pix2pix"),
    Option(
        ("verbose",),
        "not needed",
        "always",
        "The start of every run tells of its networks, data and device, and config.toml holds every value.",
        "flag",
        False,
        note="what it prints is told at the start of every training here.",
    ),
    # The machine.
    Option(
        ("gpu_ids",),
        "other name",
        "`--device`",
        "-1: cpu; 0: auto, which is the best device that there is; n: cuda:n. Several are refused: one run uses one "
        "device.",
        default="0",
        version=UNTIL_2024,
    ),
    # Test alone.
    Option(
        ("results_dir",),
        "other name",
        "`translate --out`",
        "Translations keep the names and formats of their inputs, one folder for each direction. Pages with the "
        "inputs are made by `cyclegan evaluate`.",
        default="./results/",
        command="test",
    ),
    Option(
        ("num_test", "how_many"),
        "other name",
        "`translate --max-images`",
        "There only 50 images are translated unless it is given; here all.",
        "int",
        50,
        command="test",
    ),
    Option(
        ("ntest",),
        "not needed",
        "`translate --max-images`",
        "It was never read there; `--num_test` is what counts.",
        "int",
        command="test",
        version="until 2019",
        note="the reference never reads it; --num_test is what counts.",
    ),
    Option(
        ("eval",),
        "not needed",
        "always",
        "Translating is always in evaluation mode here: dropout off, batch norm with the statistics of training, so "
        "that a result depends on its image alone. There that needs `--eval`.",
        "flag",
        False,
        command="test",
        note="translating is always in evaluation mode here.",
    ),
    Option(
        ("aspect_ratio",),
        "not needed",
        "always",
        "It undoes the squashing to squares, and only for squares. Here nothing is squashed, and a result has the "
        "size of its input.",
        "float",
        1.0,
        command="test",
        note="it stretches squares back, and a result here has the size and shape of its input.",
    ),
    Option(
        ("model_suffix",),
        "other name",
        "`translate --direction`",
        "With `--model test`: _A is a2b, _B is b2a, none is the one generator that there is.",
        default="",
        command="test",
    ),
    # Of other models and of the templates for one's own.
    Option(
        ("lambda_L1",),
        "refused",
        "",
        "Of pix2pix, which learns from pairs; cycle_gan does not know it there either.",
        "float",
        100.0,
        command="train",
    ),
    Option(("lambda_regression",), "refused", "", _TEMPLATE, "float", 1.0, command="train"),
    Option(("new_dataset_option",), "refused", "", _TEMPLATE, "float", 1.0),
)


def our_default(option: Option) -> str:
    """What holds here if nothing is said, for people; empty where there is no one setting."""
    if option.setting is None:
        return _OTHER_DEFAULTS.get(option.name, "")
    value = flat_values(TrainConfig())[option.setting]
    if option.setting == "load_size":
        value = TrainConfig().data.resolved_load_size
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


_OTHER_DEFAULTS = {
    "name": "runs/cyclegan",
    "batch_size": "1",
    "no_flip": "mirrored",
    "serial_batches": "shuffled",
    "no_dropout": "no dropout",
    "netG": "resnet, 9",
    "netD": "patch, 3",
    "n_layers_D": "3",
    "n_epochs": "200 in all",
    "n_epochs_decay": "0.5",
    "lr_policy": "linear",
    "lr_decay_iters": "0.25",
    "display_freq": "1000",
    "save_by_iter": "3",
    "gpu_ids": "auto",
    "num_test": "all",
    "use_wandb": "off",
    "model_suffix": "a2b",
    "direction": "a2b",
}


def options_table() -> str:
    """The table of docs/from-the-reference.md, in Markdown."""
    lines = [
        "| theirs | in | default there | ours | here with `--preset paper` | what differs, and why |",
        "|---|---|---|---|---|---|",
    ]
    for option in OPTIONS:
        older = f" (older: {', '.join(f'`--{name}`' for name in option.names[1:])})" if option.names[1:] else ""
        where = {"both": "train, test"}.get(option.command, option.command)
        where += f"; {option.version}" if option.version else ""
        default = _shown(option, option.default)
        if option.default_test is not None and option.default_test != option.default:
            default += f"; test: {_shown(option, option.default_test)}"
        status = {"other name": "", "same": ""}.get(option.status, f"{option.status.capitalize()}. ")
        alike = "Nothing." if option.status == "same" else "Only the name."
        cells = [f"`--{option.name}`{older}", where, default, option.ours or "-", our_default(option)]
        lines.append("| " + " | ".join([*cells, (status + option.differs) or alike]) + " |")
    return "\n".join(lines) + "\n"


def _shown(option: Option, default: Any) -> str:
    if option.kind == "flag":
        return "on" if default else "off"
    if default is None:
        return "required" if option.name == "dataroot" else "all"
    return f"{default:g}" if isinstance(default, float) else str(default) or "empty"

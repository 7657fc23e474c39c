"""The networks that are measured: those of a run, a model, an export or a preset."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cyclegan._version import __version__
from cyclegan.config import Direction, TrainConfig, make_config, read_config_file, saved_config
from cyclegan.errors import InputError
from cyclegan.images.formats import ImageFormat
from cyclegan.networks import build_generator
from cyclegan.storage.model import ModelInfo, find_model, read_info, save_model
from cyclegan.translate.engines.exported import EXPORT_FORMATS, ExportInfo, find_export


@dataclass(frozen=True)
class Subject:
    """Networks to measure.

    config: for training, None for an export alone. model: a directory for translation, None if there is only an export.
    exports: folders and their contents. is_trained: the weights are not random.
    """

    name: str
    info: ModelInfo
    direction: Direction
    config: TrainConfig | None
    model: Path | None
    exports: tuple[tuple[Path, ExportInfo], ...] = ()
    is_trained: bool = True

    def check_size(self, size: int, *, trained: bool) -> None:
        """Raises InputError for a size in pixels that these networks do not take."""
        model = self.info.model
        least = model.smallest_crop if trained else model.smallest_side
        if size < least or size % model.multiple:
            raise InputError(
                f"--sizes has {size}; these networks take multiples of {model.multiple} from {least} pixels on."
            )

    def sizes(self, *, trained: bool) -> list[int]:
        """The crop size, half of it and twice, rounded up to what the networks take."""
        model, crop = self.info.model, self.info.crop_size
        least = model.smallest_crop if trained else model.smallest_side
        return sorted({-(-max(size, least) // model.multiple) * model.multiple for size in (crop // 2, crop, 2 * crop)})


def find_subject(path: Path | None, preset: str, exports: Sequence[Path], workplace: Path) -> Subject:
    """From a run directory, checkpoint, model directory or exported folder; without one, of a preset.

    exports: more folders of `cyclegan export`, of the same model. workplace: where random weights may be written.
    Raises InputError if there is no such model.
    """
    subject = _find(path, preset, [_open_export(folder) for folder in exports], workplace)
    for folder, export in subject.exports:
        if export.origin.model != subject.info.model:
            raise InputError(f"--export {folder} has other networks than {subject.name}; give the run it was made of.")
    return subject


def _find(path: Path | None, preset: str, opened: Sequence[tuple[Path, ExportInfo]], workplace: Path) -> Subject:
    if path is None:
        return dataclasses.replace(_of_preset(preset, workplace), exports=tuple(opened))
    found = find_export(path)
    if found is not None:
        export, folder, own = found
        direction = own if own is not None else next(iter(export.networks))
        others = tuple(pair for pair in opened if pair[0] != folder)
        return Subject(path.name, export.origin, direction, None, None, ((folder, export), *others))
    model = find_model(path)
    info = read_info(model)
    return Subject(path.name, info, info.directions[0], _training(path, info), model, tuple(opened))


def _open_export(path: Path) -> tuple[Path, ExportInfo]:
    found = find_export(path)
    if found is None:
        raise InputError(f"--export is {path}; expected a folder that cyclegan export wrote for an engine.")
    return found[1], found[0]


def _training(path: Path, info: ModelInfo) -> TrainConfig:
    """The settings of a run, where they are kept; else those of the paper, with these networks."""
    kept = path / "config.toml"
    values = read_config_file(kept) if kept.is_file() else {}
    config = saved_config(values)
    data = config.data.replace(crop_size=info.crop_size, load_size=None, preprocess="resize-and-crop")
    # What a step costs does not depend on where its weights come from.
    return config.replace(model=info.model, data=data, init_from=None, freeze="none", compile=False, steps=1000)


def _of_preset(preset: str, workplace: Path) -> Subject:
    config = make_config({"steps": 1000}, preset=preset)
    info = ModelInfo(
        cyclegan_version=__version__,
        model=config.model,
        a=ImageFormat(),
        b=ImageFormat(),
        preprocess="none",
        load_size=config.data.crop_size,
        crop_size=config.data.crop_size,
        step=0,
        translate_with="final",
        directions=("a2b",),
        averages=False,
    )
    save_model(workplace / "model", info, {"a2b": build_generator(info.model, 3, 3, seed=0).state_dict()})
    return Subject(f"preset {preset}", info, "a2b", config, workplace / "model", is_trained=False)


def engine_of(export: ExportInfo) -> str:
    """The engine that computes an export."""
    return EXPORT_FORMATS[export.export_format].engine

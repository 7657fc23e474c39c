"""The networks that are measured: those of a run, a model, an export or a preset."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
        least, multiple = self._least(trained), self.info.model.multiple
        if size < least or size % multiple:
            raise InputError(f"--sizes has {size}; these networks take multiples of {multiple} from {least} pixels on.")

    def sizes(self, *, trained: bool) -> list[int]:
        """The crop size, half of it and twice, rounded up to what the networks take."""
        least, multiple, crop = self._least(trained), self.info.model.multiple, self.info.crop_size
        return sorted({-(-max(size, least) // multiple) * multiple for size in (crop // 2, crop, 2 * crop)})

    def _least(self, trained: bool) -> int:
        return self.info.model.smallest_crop if trained else self.info.model.smallest_side


def find_subject(path: Path | None, preset: str, exports: Sequence[Path], workplace: Path) -> Subject:
    """From a run directory, checkpoint, model directory or exported folder; without one, of a preset.

    exports: more folders of `cyclegan export`, of the same model. workplace: where random weights may be written.
    Raises InputError if there is no such model.
    """
    opened = tuple(_open_export(folder) for folder in exports)
    if path is None:
        subject = _of_preset(preset, workplace)
    elif (found := find_export(path)) is not None:
        export, folder, own = found
        direction = own if own is not None else next(iter(export.networks))
        subject = Subject(path.name, export.origin, direction, None, None, ((folder, export),))
    else:
        model = find_model(path)
        info = read_info(model)
        subject = Subject(path.name, info, info.directions[0], _training(path, info), model)
    others = tuple(pair for pair in opened if pair not in subject.exports)
    for folder, export in others:
        if export.origin.model != subject.info.model:
            raise InputError(f"--export {folder} has other networks than {subject.name}; give the run it was made of.")
    return replace(subject, exports=(*subject.exports, *others))


def _open_export(path: Path) -> tuple[Path, ExportInfo]:
    found = find_export(path)
    if found is None:
        raise InputError(f"--export is {path}; expected a folder that cyclegan export wrote for an engine.")
    return found[1], found[0]


def _training(path: Path, info: ModelInfo) -> TrainConfig:
    """The settings of a run, where they are kept; else those of the paper, with these networks."""
    kept = path / "config.toml"
    config = saved_config(read_config_file(kept) if kept.is_file() else {})
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

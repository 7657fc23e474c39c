"""Translate images with a trained model."""

import copy
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import torch
from PIL import Image
from pydantic import ValidationError
from torch import Tensor, nn

from cyclegan.config import Direction, SelfEnsemble
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images import Array
from cyclegan.images.file_formats import FILE_FORMATS
from cyclegan.images.filetypes.pillow import to_pillow, with_alpha
from cyclegan.images.interpret import interpret_as
from cyclegan.images.output import make_output
from cyclegan.images.raster import Raster
from cyclegan.images.tensors import from_tensor, is_finite, pad_to_multiple, same_size_batches, to_tensor
from cyclegan.storage.hub import PREFIX, fetch_model
from cyclegan.storage.model import ModelInfo, find_model, find_weights, load_generator
from cyclegan.storage.probe_rates import ProbeKind
from cyclegan.system.advice import advise
from cyclegan.system.arguments import MAX_NUMBER, check_choice, check_int, check_path
from cyclegan.system.host_state import host_state
from cyclegan.system.json_files import describe_validation_error, shown
from cyclegan.translate.engines import Engine, on_device
from cyclegan.translate.engines.exported import files_of_export, find_export, open_export
from cyclegan.translate.engines.registry import open_engine
from cyclegan.translate.engines.with_torch import open_torch
from cyclegan.translate.given import check_array, check_several, check_tensor, find_not_finite, read_given
from cyclegan.translate.pickling import Origin, reduce_translator
from cyclegan.translate.probes.making import CONTRASTS, KINDS, SIZES, check_probes
from cyclegan.translate.probes.rates import ProbeResult
from cyclegan.translate.probes.response import Probed, probe_image
from cyclegan.translate.self_ensemble import View, check_self_ensemble, mean_of, views_of
from cyclegan.translate.stabilise import MEMORY_FRAMES, Stabiliser
from cyclegan.translate.tiling.pictures import SMALLEST_TILE, translate_array

Network: TypeAlias = Callable[[Tensor], Tensor]
Picture: TypeAlias = Image.Image | Array
Given: TypeAlias = Picture | str | os.PathLike[str]

# A number, or `auto`, see `batch_limits`.
BatchSize: TypeAlias = int | Literal["auto"]

# Images of 256 pixels in a batch on a GPU, where a call for one leaves most of the chip idle; of larger ones fewer.
AUTO_BATCH = 32


class Translator:
    """One direction of a trained model: images in, images of the same size out.

    The network runs in evaluation mode: dropout is off and batch norm uses its running statistics, so that a result
    depends on the image alone. Instance norm is the same in both modes.
    """

    def __init__(
        self,
        network: nn.Module | Engine,
        info: ModelInfo,
        direction: Direction,
        device: torch.device | None = None,
        *,
        name: str | None = None,
        self_ensemble: SelfEnsemble = "none",
    ) -> None:
        """network: a generator, computed by torch in float32 on `device` (default: the CPU), or an engine.

        name: what messages call the model; default: the class of the network, or the engine. self_ensemble: as in
        `load`.
        """
        self.name = name or (type(network).__name__ if isinstance(network, nn.Module) else network.name)
        if isinstance(network, nn.Module):
            network = replace(open_torch(network, "fp32", device or torch.device("cpu")), original=network)
        self.engine = network
        self.origin: Origin | None = None
        self.info = info
        self.direction = direction
        self.device = network.device
        self.source, self.target = info.formats(direction)
        self.self_ensemble = check_self_ensemble("self_ensemble", self_ensemble)

    @property
    def views(self) -> tuple[View, ...]:
        """The views of an image whose translations are averaged: one without self-ensemble."""
        return views_of(self.self_ensemble)

    @property
    def network(self) -> nn.Module:
        """The generator as a torch module, (N, C, H, W) float32 in and out. Raises InputError if there is none."""
        if self.engine.network is None:
            raise InputError(
                "Stabilising needs the layers of the network, which cannot be reached in an exported file, or in an "
                "engine other than torch; translate with the run itself and engine torch."
            )
        return self.engine.network

    @property
    def original(self) -> nn.Module:
        """The float32 generator, which computes tiles. Raises InputError for an exported file, which has none."""
        if self.engine.original is None:
            raise InputError(
                "An exported file cannot be run in tiles; translate with the run that it was exported from."
            )
        return self.engine.original

    @classmethod
    @host_state()
    def load(
        cls,
        path: str | Path,
        *,
        direction: Direction = "a2b",
        device: str = "auto",
        weights: str | None = None,
        engine: str = "auto",
        precision: str | None = None,
        self_ensemble: SelfEnsemble = "none",
    ) -> Self:
        """Load a run directory, a checkpoint, a model directory, `hf:user/name` of the Hugging Face Hub, or an export.

        path: an export is the folder that `cyclegan export` wrote, or one of its files.
        direction: a2b or b2a; an exported file has its own. weights: final or average; default: as the model was
        configured. engine: torch, onnxruntime, openvino; `auto` is torch, whatever is installed, or the engine of an
        export. precision: fp32, fp16, bf16 or int8; default: fp32, or the precision of an export; `auto` is bf16 where
        it is fast and close, see `cyclegan.translate.engines.registry.open_engine`.
        self_ensemble: average the translations of views of an image, see `cyclegan.translate.self_ensemble`.
        Raises InputError if there is no such model, it is damaged, or the engine is not installed or cannot compute it.
        """
        _check_choice(direction, weights)
        check_self_ensemble("self_ensemble", self_ensemble)
        path = check_path("path", path)
        found = find_export(path)
        if found is not None:
            export, folder, own = found
            if weights is not None:
                raise InputError(f"{path} was exported with its weights, and weights is {weights}; leave it out.")
            direction = own or direction
            opened = open_export(export, folder, direction, engine=engine, precision=precision, device=device)
            translator = cls(opened, export.origin, direction, name=str(path), self_ensemble=self_ensemble)
            translator.origin = Origin.of(folder, None, files_of_export(export, folder, direction), None)
            return translator
        model = find_model(path)
        network, info = load_generator(model, direction, weights)
        source, target = info.formats(direction)
        opened = open_engine(
            network,
            source.channels,
            info.model.multiple,
            engine=engine,
            precision=precision,
            device=device,
            eight_bit=target.dtype == "uint8",
        )
        translator = cls(opened, info, direction, name=str(path), self_ensemble=self_ensemble)
        files = (model / "config.json", find_weights(model, direction, weights)[1])
        translator.origin = Origin.of(model, weights, files, opened.original)
        return translator

    @classmethod
    def from_pretrained(
        cls,
        repo_id: str,
        *,
        direction: Direction = "a2b",
        device: str = "auto",
        revision: str | None = None,
        weights: str | None = None,
        token: str | None = None,
        engine: str = "auto",
        precision: str | None = None,
        self_ensemble: SelfEnsemble = "none",
    ) -> Self:
        """Load `user/name` from the Hugging Face Hub, or from its cache if there is no connection.

        revision: branch, tag or commit; default: the newest. token: default: that of `hf auth login` or HF_TOKEN.
        direction, device, weights, engine, precision, self_ensemble: as in `load`. Only config.json and safetensors are
        downloaded.
        Raises InputError if there is no such model, access is denied or it is damaged; ConnectionError if the Hub
        cannot be reached and the model is not in the cache.
        """
        _check_choice(direction, weights)
        try:
            model = fetch_model(repo_id, revision=revision, token=token)
        except (InputError, ConnectionError) as error:
            if not Path(repo_id).is_dir():
                raise
            hint = f"{repo_id} is a local folder: load it with Translator.load."
            raise type(error)(f"{str(error).removesuffix('.')}; {hint}") from error
        translator = cls.load(
            model,
            direction=direction,
            device=device,
            weights=weights,
            engine=engine,
            precision=precision,
            self_ensemble=self_ensemble,
        )
        translator.name = f"{PREFIX}{repo_id}"
        return translator

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the path of the model with a digest, or as its weights, see `cyclegan.translate.pickling`."""
        return reduce_translator(self)

    def __copy__(self) -> Self:
        """A translator with the same network, and not one that is loaded again, as a pickle is."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A translator with a copy of the network. An exported file has one engine for both."""
        twin = copy.copy(self)
        engine = self.engine
        if engine.original is not None:
            original = copy.deepcopy(engine.original, memo)
            twin.engine = replace(engine, original=original)
            if engine.network is not None:
                opened = open_torch(original, engine.precision, engine.device)
                twin.engine = replace(opened, original=original, reason=engine.reason)
        return twin

    def with_reading(self, **changes: Any) -> Self:
        """This translator, reading files with these `bands`, `nodata`, `background` or `page`. Raises InputError."""
        try:
            source = self.source.replace(**changes)
        except ValidationError as error:
            raise InputError(describe_validation_error(error)) from None
        twin = copy.copy(self)
        twin.source = source
        return twin

    def with_self_ensemble(self, self_ensemble: SelfEnsemble) -> Self:
        """This translator with another `self_ensemble`, see `load`. Raises InputError."""
        twin = copy.copy(self)
        twin.self_ensemble = check_self_ensemble("self_ensemble", self_ensemble)
        return twin

    def __call__(self, image: Given) -> Picture:
        """One image, as in `translate`."""
        (result,) = self.translate([image])
        return result

    def translate(
        self,
        images: Iterable[Given],
        *,
        batch_size: BatchSize = 1,
        stabilise: bool = False,
        memory_frames: float = MEMORY_FRAMES,
        tile: int | None = None,
    ) -> Iterator[Picture]:
        """Translate any iterable of images, in order, reading at most one batch ahead, or two on a GPU.

        A PIL image, or the path of an image, gives a PIL image if the target domain is 8-bit with 1, 3 or 4 channels,
        else an array. An array is (H, W, C) in the type and range of the source domain, and gives one of the target
        domain. Height and width stay, and so does the transparency of a picture. Neighbours of one size share a batch.
        Raises InputError for another type, other channels, and values that are not finite; UnreadableError for a file
        that cannot be decoded.
        batch_size: most images in a batch; `auto`: see `batch_limits`.
        stabilise: the images are the frames of one sequence, and flicker is reduced as in
        `cyclegan.translate.stabilise`; memory_frames: its time constant.
        tile: translate each image in squares of so many pixels, for images that do not fit into memory as a whole. The
        result is the same, without seams. Raises InputError if it still does not fit.
        Raises InputError for a result that is not finite, such as after an overflow in fp16.
        """
        for result in self.translate_each(
            images, batch_size=batch_size, stabilise=stabilise, memory_frames=memory_frames, tile=tile
        ):
            if isinstance(result, InputError):
                raise result
            yield result

    def translate_each(
        self,
        images: Iterable[Given],
        *,
        batch_size: BatchSize = 1,
        stabilise: bool = False,
        memory_frames: float = MEMORY_FRAMES,
        tile: int | None = None,
        checked: bool = True,
        max_pixels: int | None = None,
    ) -> Iterator[Picture | InputError]:
        """As `translate`, but yields the error of an image whose result is not finite or that does not fit into memory,
        and continues with the next.

        max_pixels: most pixels of a batch; an image with more has one of its own.
        checked: off for arrays of files that have been read as the model takes them; at another scale they are float32.
        """
        check_several(images)
        if tile is not None and stabilise:
            raise InputError(f"tile is {tile} and stabilise is on; frames of a sequence are not translated in tiles.")
        if tile is not None:
            check_int("tile", tile, least=SMALLEST_TILE, unit=" pixels")
            yield from (self._translate_in_tiles(image, tile) for image in images)
            return
        check_batch_size("batch_size", batch_size)
        most, max_pixels = batch_limits(batch_size, self.device, max_pixels)
        networks: list[Network] = [self.engine] * len(self.views)
        if stabilise:  # each view has statistics of its own
            networks = [Stabiliser(self.network, memory_frames=memory_frames) for _ in networks]

        # A device that converts values itself computes one batch while this process works on others.
        overlaps = not stabilise and on_device.converts(self.device, self.source, self.target)
        if overlaps and max_pixels is not None:  # channels come last there, and count as pixels
            max_pixels *= self.source.channels

        def tensors() -> Iterator[tuple[Raster | InputError | None, Tensor]]:
            for image in images:
                try:
                    with _fitting_into_memory("An image", "as a whole"):
                        array, belongings = self._open(image, checked=checked)
                        is_raw = overlaps and on_device.is_eight_bit(array)
                        # With an axis more, so that it shares no batch with another kind.
                        tensor = torch.tensor(array)[None] if is_raw else to_tensor(array, self.source)
                        opened: tuple[Raster | InputError | None, Tensor] = belongings, tensor
                except _UnfitError as error:
                    opened = error, torch.empty(0)  # in its place in the order
                yield opened

        waiting: deque[Callable[[], Iterator[Picture | InputError]]] = deque()
        for labels, batch in same_size_batches(tensors(), most, max_pixels):
            waiting.append(self._start(labels, batch, networks))
            if len(waiting) > overlaps:
                yield from waiting.popleft()()
        for results in waiting:
            yield from results()

    def _start(
        self, labels: list[Raster | InputError | None], batch: Tensor, networks: Sequence[Network]
    ) -> Callable[[], Iterator[Picture | InputError]]:
        """Translate a batch, or let a GPU begin with it. Returns a function that waits for the results."""
        if batch.ndim < 4:  # of errors alone
            return lambda: (label for label in labels if isinstance(label, InputError))
        is_raw = batch.ndim == 5
        height, width = batch.shape[2:4] if is_raw else batch.shape[-2:]
        what, how = f"An image of {width}x{height} pixels", f"as a whole, {len(labels)} at a time"
        try:
            with _fitting_into_memory(what, how):
                if is_raw:
                    padded = partial(self._compute, networks=networks)
                    started = on_device.start(batch[:, 0], padded, self.device, self.source, self.target)
                    return partial(self._finished, labels, started)
                return partial(self._pictures, labels, batch, self._run(batch, networks))
        except OutOfMemoryError as error:
            error.num_images = len(labels)
            return partial(iter, [error] * len(labels))

    def _pictures(
        self, labels: list[Raster | InputError | None], batch: Tensor, results: Tensor
    ) -> Iterator[Picture | InputError]:
        for label, result, given in zip(labels, results, batch, strict=True):
            assert not isinstance(label, InputError)
            try:
                self.check_finite(result, given)
            except _UnfitError as error:
                yield error
            else:
                yield self._like(label, from_tensor(result, self.target))

    def _finished(
        self, labels: list[Raster | InputError | None], started: on_device.Started
    ) -> Iterator[Picture | InputError]:
        for label, array, finite in zip(labels, *started.results(), strict=True):
            assert not isinstance(label, InputError)
            yield self._like(label, array) if finite else self._not_finite()

    def _translate_in_tiles(self, image: Given, tile: int) -> Picture | InputError:
        """The result, or the error of an image as `translate_each` yields it."""
        try:
            with _fitting_into_memory("An image", f"in tiles of {tile} pixels"):
                array, belongings = self._open(image)
                check = partial(self.check_finite, given=array, precision="fp32")
                result = translate_array(
                    self.original,
                    array,
                    self.info.model,
                    self.source,
                    self.target,
                    tile,
                    check=check,
                    views=self.views,
                )
                return self._like(belongings, result)
        except _UnfitError as error:
            return error

    def translate_tensor(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] of any size -> the same size of the other domain, on the CPU.

        Sizes that the network does not take are padded by reflection at the right and bottom, and cropped afterwards.
        Floats of any precision are computed in float32. Raises InputError for another type, shape or range, and for a
        result that is not finite.
        """
        check_tensor(images, self.source)
        images = images.float()
        result = self._run(images, [self.engine] * len(self.views))
        self.check_finite(result, images)
        return result

    @host_state()
    def probe(
        self,
        image: Given,
        *,
        kinds: Sequence[ProbeKind] = KINDS,
        sizes: Sequence[float] = SIZES,
        contrasts: Sequence[float] = CONTRASTS,
        places: int = 4,
        seed: int = 0,
        number: int = 0,
        batch_size: BatchSize = "auto",
    ) -> ProbeResult:
        """Put known changes into an image, translate each of these images, and measure whether the changes are shown.

        image: as in `translate`, as a whole. kinds: lesion (a round spot), missing (something round that is there,
        filled by what is around it), line, and brightness (of the whole image). sizes: diameters as shares of the
        shorter side. contrasts: shares of the value range. places: of each kind and size, at random. seed, number: of
        these places and of noise; number: that of the image among others. batch_size: as in `translate`.
        A change counts as kept where a person would see it in the translation at its place, and where it is stronger
        than 99 % of what imperceptible noise on the image changes; see `cyclegan.translate.probes.response`. With the
        defaults it takes as long as 130 to 190 translations of the image. Raises InputError as `translate` does.
        """
        check_probes(kinds, sizes, contrasts, places, seed, number)
        check_batch_size("batch_size", batch_size)
        with _fitting_into_memory("An image with its probes", "as a whole"):
            array, belongings = self._open(image)
            tensor = to_tensor(array, self.source)
            valid = None if belongings is None or belongings.valid is None else torch.from_numpy(belongings.valid)
            most, max_pixels = batch_limits(batch_size, self.device)
            if max_pixels is not None:
                most = max(1, min(most, max_pixels // tensor[0].numel()))
            found = self.probe_tensor(
                tensor,
                valid,
                kinds=kinds,
                sizes=sizes,
                contrasts=contrasts,
                places=places,
                seed=seed,
                number=number,
                batch_size=most,
            )
            return ProbeResult(tuple(probed.response for probed in found))

    def probe_tensor(self, image: Tensor, valid: Tensor | None = None, **options: Any) -> Iterator[Probed]:
        """As `probe`, for (C, H, W) in [-1, 1], with the pictures of each change.

        valid: (H, W), bool, False in holes, or None. options: as in `cyclegan.translate.probes.response.probe_image`.
        """
        alpha = self.source.last_is_alpha, self.target.last_is_alpha
        return probe_image(self.translate_tensor, image, valid, alpha=alpha, **options)

    def check_finite(
        self, result: Tensor, given: Tensor | Array | None = None, *, precision: str | None = None
    ) -> None:
        """Raise InputError if a result on the CPU holds NaN or infinity, which a picture would show as black.

        given: the input, which is the cause if it holds NaN or infinity itself. precision: of the computation; default:
        that of the engine.
        """
        if is_finite(result):
            return
        if given is not None and not np.isfinite(np.asarray(given)).all():
            raise _UnfitError("The image itself holds NaN or infinity; fill these values with a number first.")
        raise self._not_finite(precision)

    def _not_finite(self, precision: str | None = None) -> "_UnfitError":
        engine, precision = self.engine, precision or self.engine.precision
        remedy = "its weights are damaged or too large, so use another checkpoint of the run"
        if precision != "fp32":
            verb = "translate" if engine.original is not None else "export it again"
            remedy = advise(f"{verb} with --precision fp32", "use fp32")
        return _UnfitError(
            f"{self.name} gives NaN or infinity for this image ({self.direction}, {precision} on {engine.device}); "
            f"{remedy}."
        )

    def _run(self, images: Tensor, networks: Sequence[Network]) -> Tensor:
        with torch.inference_mode():
            return self._compute(images.to(self.device), networks=networks).cpu()

    def _compute(self, images: Tensor, *, networks: Sequence[Network]) -> Tensor:
        """The mean over all views, float32, for images of any size on the device. networks: one for each view."""
        pairs = zip(self.views, networks, strict=True)
        return mean_of(view.undo(self._padded(view.apply(images), network)) for view, network in pairs)

    def _padded(self, images: Tensor, network: Network) -> Tensor:
        """network(images), float32, for images of any size on its device."""
        height, width = images.shape[-2:]
        model = self.info.model
        padded = pad_to_multiple(images, model.multiple, model.smallest_side)
        return network(padded)[..., :height, :width].float()

    def _open(self, image: Given, *, checked: bool = True) -> tuple[Array, Raster | None]:
        """An image as the model takes it; and for a PIL image or a file its transparency, holes and metadata."""
        array, belongings = self._opened(image) if checked else (np.asarray(image), None)
        if (reason := find_not_finite(array, self.source)) is not None:
            raise _UnfitError(reason)
        return array, belongings

    def _opened(self, image: Given) -> tuple[Array, Raster | None]:
        if isinstance(image, str | os.PathLike):
            raster = read_given(check_path("image", image), self.source, self.target)
        elif isinstance(image, Image.Image):
            if not self.source.is_picture:
                raise InputError(f"This model reads images of {self.source}; pass arrays of shape (H, W, channels).")
            if 0 in image.size:
                raise InputError(f"The image has {image.width}x{image.height} pixels; it is empty.")
            raster = interpret_as(Path("The image"), image, self.source)
        else:
            return check_array(image, self.source), None
        return raster.values, replace(raster, values=raster.values[:0])

    def _like(self, belongings: Raster | None, array: Array) -> Picture:
        """A PIL image for a PIL image or a file, if it can hold the result; holes in an array of floats are NaN."""
        if belongings is None:
            return array
        png, target = FILE_FORMATS["png"], self.target
        if not (target.is_picture and png.can_hold(target.channels, target.dtype, target.alpha)):
            if belongings.valid is not None and array.dtype.kind == "f":
                array[~belongings.valid] = np.nan
            return array
        # What a PNG keeps.
        output, _ = make_output(array, belongings, target, png.keeps)
        picture = to_pillow(with_alpha(output))
        if output.metadata.profile is not None:
            picture.info["icc_profile"] = output.metadata.profile
        return picture


def check_batch_size(name: str, batch_size: BatchSize) -> None:
    """Raises InputError for what is neither a number nor `auto`. name: of the argument."""
    if not isinstance(batch_size, str):
        check_int(name, batch_size, least=1)
    elif batch_size != "auto":
        raise InputError(f"{name} is {shown(batch_size)}; expected a whole number, or auto.")


def batch_limits(batch_size: BatchSize, device: torch.device, max_pixels: int | None = None) -> tuple[int, int | None]:
    """The most images in a batch, and the most pixels in it, None for any number.

    `auto` is one image on a CPU, which is as fast; on a GPU AUTO_BATCH of 256 pixels, and fewer of larger ones.
    max_pixels: a bound for any batch size.
    """
    if batch_size != "auto":
        return batch_size, max_pixels
    if device.type != "cuda":
        return 1, max_pixels
    return AUTO_BATCH, min(AUTO_BATCH * 256 * 256, max_pixels or MAX_NUMBER)


class _UnfitError(InputError):
    """An image that does not fit into memory, or a result that holds NaN or infinity. Others go on."""


class OutOfMemoryError(_UnfitError):
    """Images that do not fit into memory, so many at a time."""

    num_images = 1


@contextmanager
def _fitting_into_memory(what: str, how: str) -> Iterator[None]:
    """Turn errors of memory, of Python, of torch and of a decoder, into an `_UnfitError`."""
    try:
        yield
    except (MemoryError, RuntimeError, UnreadableError) as error:
        cause: BaseException | None = error
        while isinstance(cause, UnreadableError):
            cause = cause.__cause__
        # torch has no error of its own for the CPU.
        texts = ("out of memory", "allocate memory")
        if not isinstance(cause, MemoryError) and not any(text in str(cause) for text in texts):
            raise
        advice = advise("translate it in tiles (--tile auto, tile=512)", "make it smaller first")
        raise OutOfMemoryError(f"{what} does not fit into memory {how}; {advice}.") from error


def _check_choice(direction: str, weights: str | None) -> None:
    check_choice("direction", direction, ("a2b", "b2a"))
    if weights is not None:
        check_choice("weights", weights, ("final", "average"))

"""Translate images with what a run has learned; no flags about the architecture."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self, TypeAlias

import torch
from PIL import Image
from torch import Tensor, nn

from cyclegan.config import Direction
from cyclegan.errors import InputError
from cyclegan.images import Array
from cyclegan.images.pillow import from_pillow
from cyclegan.images.tensors import from_tensor, pad_to_multiple, to_tensor
from cyclegan.storage.hub import fetch_model
from cyclegan.storage.model import ModelInfo, find_model, load_generator
from cyclegan.translate.engines import Engine
from cyclegan.translate.engines.exported import find_export, open_export
from cyclegan.translate.engines.registry import open_engine
from cyclegan.translate.engines.with_torch import open_torch
from cyclegan.translate.stabilise import MEMORY_FRAMES, Stabiliser
from cyclegan.translate.tiling.pictures import translate_array

Network: TypeAlias = Callable[[Tensor], Tensor]
Picture: TypeAlias = Image.Image | Array


class Translator:
    """One direction of a trained model: images in, images of the same size out.

    The network runs in evaluation mode: dropout is off and batch norm uses the statistics of its training, so that the
    result of an image depends on nothing but the image. Instance norm is the same in both modes.
    """

    def __init__(
        self, network: nn.Module | Engine, info: ModelInfo, direction: Direction, device: torch.device | None = None
    ) -> None:
        """network: a generator, which torch computes in float32 on `device` (default: the CPU), or any engine."""
        if isinstance(network, nn.Module):
            network = replace(open_torch(network, "fp32", device or torch.device("cpu")), original=network)
        self.engine = network
        self.info = info
        self.direction = direction
        self.device = network.device
        self.source, self.target = (info.a, info.b) if direction == "a2b" else (info.b, info.a)

    @property
    def network(self) -> nn.Module:
        """The generator as a torch module, (N, C, H, W) float32 in and out. Raises InputError if there is none."""
        if self.engine.network is None:
            raise InputError(
                f"Its layers cannot be reached in {self.engine.name} or in an exported file, as stabilising must; "
                "translate with the run itself and engine torch."
            )
        return self.engine.network

    @property
    def original(self) -> nn.Module:
        """The float32 generator, which tiles are made with. Raises InputError for an exported file, which has none."""
        if self.engine.original is None:
            raise InputError("An exported file cannot be run in tiles; translate with the run that it was made of.")
        return self.engine.original

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        direction: Direction = "a2b",
        device: str = "auto",
        weights: str | None = None,
        engine: str = "auto",
        precision: str | None = None,
    ) -> Self:
        """From a run directory, a checkpoint or a model directory, from the Hugging Face Hub as `hf:user/name`, or from
        what `cyclegan export` wrote, a folder or one of its files.

        direction: a2b or b2a; of an exported file its own. weights: final or average, default as the model was
        configured. engine: torch, onnxruntime, openvino; `auto` is torch, and the one that an export was made for.
        precision: fp32, fp16, bf16 or int8. By default results are those of float32 in torch, and an export has that
        which it was made in; `auto` is bf16 where that is fast and close, as
        `cyclegan.translate.engines.open_engine` has it.
        Raises InputError if there is no such model, it is damaged, or the engine is not installed or cannot do that.
        """
        _check_choice(direction, weights)
        found = find_export(Path(path))
        if found is not None:
            export, folder, own = found
            if weights is not None:
                raise InputError(f"{path} was exported with its weights, and weights is {weights}; leave it out.")
            direction = own or direction
            opened = open_export(export, folder, direction, engine=engine, precision=precision, device=device)
            return cls(opened, export.origin, direction)
        network, info = load_generator(find_model(Path(path)), direction, weights)
        source, target = (info.a, info.b) if direction == "a2b" else (info.b, info.a)
        opened = open_engine(
            network,
            source.channels,
            info.model.multiple,
            engine=engine,
            precision=precision,
            device=device,
            eight_bit=target.dtype == "uint8",
        )
        return cls(opened, info, direction)

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
    ) -> Self:
        """From the Hugging Face Hub, `user/name`; without a connection from the cache of huggingface_hub.

        revision: branch, tag or commit, default the newest. token: default that of `hf auth login` or HF_TOKEN.
        direction, device, weights, engine, precision: as in `load`. Only config.json and safetensors are fetched.
        Raises InputError if there is no such model, it may not be read or is damaged, and ConnectionError if the Hub
        cannot be reached and the model is not in the cache.
        """
        _check_choice(direction, weights)
        try:
            model = fetch_model(repo_id, revision=revision, token=token)
        except (InputError, ConnectionError) as error:
            if not Path(repo_id).is_dir():
                raise
            hint = f"{repo_id} is a folder here: Translator.load takes it."
            raise type(error)(f"{str(error).removesuffix('.')}; {hint}") from error
        return cls.load(model, direction=direction, device=device, weights=weights, engine=engine, precision=precision)

    def __call__(self, image: Picture) -> Picture:
        """One image, as in `translate`."""
        (result,) = self.translate([image])
        return result

    def translate(
        self,
        images: Iterable[Picture],
        *,
        batch_size: int = 1,
        stabilise: bool = False,
        memory_frames: float = MEMORY_FRAMES,
        tile: int | None = None,
    ) -> Iterator[Picture]:
        """Translate any iterable of images, in order, reading no further ahead than a batch.

        A PIL image gives a PIL image where the target domain is 8-bit with 1, 3 or 4 channels, else an array. An array
        is (H, W, C) in the type and range of the source domain, and gives one of the target domain. Height and width
        stay. Neighbours of one size share a batch. Raises InputError for wrong channels.
        stabilise: the images are the frames of one sequence, and flicker is reduced as in
        `cyclegan.translate.stabilise`; memory_frames: its time constant.
        tile: each image by itself in squares of so many pixels, for images that do not fit into memory as a whole. The
        result is the same, without seams: see docs/large-images.md. Raises InputError if it does not fit so, either.
        """
        if tile is not None and stabilise:
            raise InputError(f"tile is {tile} and stabilise is on; frames of a sequence are not cut into tiles.")
        if tile is not None:
            for image in images:
                array = self._to_array(image)
                result = translate_array(self.original, array, self.info.model, self.source, self.target, tile)
                yield self._like(isinstance(image, Image.Image), result)
            return
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; expected at least 1.")
        network: Network = Stabiliser(self.network, memory_frames=memory_frames) if stabilise else self.engine
        waiting: list[tuple[Tensor, bool]] = []
        for image in images:
            item = self._to_tensor(image), isinstance(image, Image.Image)
            if waiting and (len(waiting) == batch_size or waiting[0][0].shape != item[0].shape):
                yield from self._flush(waiting, network)
                waiting = []
            waiting.append(item)
        if waiting:
            yield from self._flush(waiting, network)

    def translate_tensor(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] of any size -> the same of the other domain, on the CPU.

        Sizes that the network does not take are mirrored outwards at the right and below, and cut back.
        """
        return self._run(images, self.engine)

    def _run(self, images: Tensor, network: Network) -> Tensor:
        height, width = images.shape[-2:]
        model = self.info.model
        with torch.inference_mode():
            padded = pad_to_multiple(images.to(self.device), model.multiple, model.smallest_side)
            return network(padded)[..., :height, :width].float().cpu()

    def _to_tensor(self, image: Picture) -> Tensor:
        return to_tensor(self._to_array(image), self.source)

    def _to_array(self, image: Picture) -> Array:
        if isinstance(image, Image.Image):
            if self.source.dtype != "uint8" or self.source.channels not in (1, 3, 4):
                raise InputError(f"This model reads images of {self.source}; pass arrays of shape (H, W, channels).")
            return from_pillow(image, self.source.channels)
        array = image[..., None] if image.ndim == 2 else image
        if array.ndim != 3 or array.shape[2] != self.source.channels:
            raise InputError(f"The array has shape {image.shape}; this model takes (H, W, {self.source.channels}).")
        return array

    def _like(self, was_pil: bool, array: Array) -> Picture:
        """A PIL image for one, where it can hold the result."""
        if was_pil and self.target.dtype == "uint8" and self.target.channels in (1, 3, 4):
            return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
        return array

    def _flush(self, waiting: list[tuple[Tensor, bool]], network: Network) -> Iterator[Picture]:
        results = self._run(torch.stack([tensor for tensor, _ in waiting]), network)
        for result, (_, was_pil) in zip(results, waiting, strict=True):
            yield self._like(was_pil, from_tensor(result, self.target))


def _check_choice(direction: str, weights: str | None) -> None:
    if direction not in ("a2b", "b2a"):
        raise InputError(f"direction is {direction!r}; expected a2b or b2a.")
    if weights not in (None, "final", "average"):
        raise InputError(f"weights is {weights!r}; expected final or average.")

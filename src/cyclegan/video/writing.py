"""Write clips: container, pictures and sound."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cyclegan.errors import InputError, reason_of, remedy_sentence
from cyclegan.images import Array
from cyclegan.images.resizing import resize
from cyclegan.system.atomic import atomic_path
from cyclegan.video.reading import BT709, FULL, LIMITED, RGB, ClipInfo, exact_flags, matrix_of

if TYPE_CHECKING:  # the extra `video`
    import av.container

# Suffix -> container, codec of the pictures, and codec of sound that the container cannot hold as it is.
# H.264 at rate factor 18 and VP9 at 24 show no difference from their source at a glance.
_H264 = ("libx264", {"crf": "18", "preset": "medium"}, "aac")
_VP9 = ("libvpx-vp9", {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}, "libopus")
CONTAINERS: dict[str, tuple[str, tuple[str, dict[str, str], str]]] = {
    ".mp4": ("mp4", _H264),
    ".m4v": ("mp4", _H264),
    ".mov": ("mov", _H264),
    ".mkv": ("matroska", _H264),
    ".webm": ("webm", _VP9),
}

# Tags that describe the old container.
_STALE_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder")


@contextmanager
def open_output(av: Any, target: Path) -> "Iterator[av.container.OutputContainer]":
    """The open target. If the block raises an error, the target stays as it was.

    Errors of opening and closing become an InputError that names the target; errors of the block are not changed.
    """
    block_error: BaseException | None = None
    # An absolute path, because a name with a colon would be taken for a protocol.
    with (
        write_errors(av, target, lambda: block_error),
        atomic_path(target.absolute()) as hidden,
        open_container(av, hidden, CONTAINERS[target.suffix.lower()][0]) as out,
    ):
        try:
            yield out
        except BaseException as error:
            block_error = error
            raise


def open_container(av: Any, place: Path, container: str) -> Any:
    """A new file in this container format. place: an absolute path."""
    options = {"movflags": "+faststart"} if container in ("mp4", "mov") else {}
    return av.open(str(place), "w", format=container, options=options)


@contextmanager
def write_errors(av: Any, target: Path, cause: Callable[[], BaseException | None] = lambda: None) -> Iterator[None]:
    """Turn errors of the disk or the container into an InputError that names the target, unless `cause` returns one."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        if (other := cause()) is not None:
            raise other from None
        stays = "What was there before stays" if target.exists() else "Nothing is left of it"
        raise InputError(
            f"{target} could not be written: {reason_of(error)}. {stays}.{remedy_sentence(error)}"
        ) from error


class _Track:
    """A stream of the output."""

    _stream: Any

    def __init__(self, av: Any, out: Any, target: Path) -> None:
        self._av, self._out, self._target = av, out, target

    def _encode(self, frame: Any) -> None:
        with write_errors(self._av, self._target):
            self._out.mux(self._stream.encode(frame))

    def close(self) -> None:
        self._encode(None)


class PictureWriter(_Track):
    """The pictures of the output: (H, W, 1 or 3) in, encoded frames out."""

    def __init__(self, av: Any, out: Any, target: Path, info: ClipInfo, notes: list[str]) -> None:
        super().__init__(av, out, target)
        self._info = info
        codec, options, _ = CONTAINERS[target.suffix.lower()][1]
        try:
            stream = out.add_stream(codec, rate=info.rate, options=dict(options))
        except av.codec.codec.UnknownCodecError:
            raise InputError(
                f"This build of PyAV has no {codec}; choose another format than {target.suffix}."
            ) from None
        stream.width, stream.height = info.width, info.height
        stream.pix_fmt = "yuv420p"
        # 4:2:0 halves both sides, and H.264 cannot mark a last row or column as half. VP9 can.
        if codec == "libx264" and (info.width % 2 or info.height % 2):
            stream.pix_fmt = "yuv444p"
            notes.append(
                f"{target.name} has an odd size, {info.width}x{info.height}, which H.264 keeps only as 4:4:4; "
                "browsers and phones may not play that, but they do play .webm."
            )
        stream.time_base = stream.codec_context.time_base = info.time_base
        if info.pixel_aspect:
            stream.codec_context.sample_aspect_ratio = info.pixel_aspect

        # Keep the tags. A clip in RGB is written in BT.709 with that tag.
        is_rgb = info.matrix == RGB
        context = stream.codec_context
        context.colorspace = BT709 if is_rgb else info.matrix
        context.color_range = LIMITED if is_rgb else info.color_range
        context.color_primaries, context.color_trc = info.primaries, info.transfer
        self._full = context.color_range == FULL
        self._stream = stream
        self._last: int | None = None
        self._step = max(1, round(1 / (info.rate * info.time_base)))
        self.end = Fraction(0)

    def write(self, array: Array, pts: int | None, duration: int) -> None:
        """pts, duration: in units of the clip's time base; a pts that does not grow is raised, as encoders require."""
        info = self._info
        if pts is None:
            pts = 0 if self._last is None else self._last + self._step
        if self._last is not None and pts <= self._last:
            pts = self._last + 1
        self._last = pts
        array = resize(array, info.height, info.width)
        if array.shape[2] == 1:
            array = np.repeat(array, 3, 2)
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(array), "rgb24").reformat(
            format=self._stream.pix_fmt,
            src_color_range="JPEG",
            dst_colorspace=matrix_of(info),
            dst_color_range="JPEG" if self._full else "MPEG",
            interpolation=exact_flags(self._av),
        )
        frame.pts, frame.duration, frame.time_base = pts, duration, info.time_base
        self.end = (pts + (duration or self._step)) * info.time_base
        self._encode(frame)


def open_sounds(av: Any, clip: Any, out: Any, target: Path, start: Fraction, notes: list[str]) -> "dict[int, Sound]":
    """A writer for each stream of sound, by its index. `notes` receives what is left out or re-encoded."""
    out.metadata.update({key: value for key, value in clip.metadata.items() if key.lower() not in _STALE_TAGS})
    sounds = {}
    for stream in clip.streams.audio:
        kind = stream.codec_context and stream.codec_context.name
        try:
            sound = sounds[stream.index] = Sound(av, out, target, stream, start)
        except (av.FFmpegError, ValueError):
            notes.append(f"Sound of the kind {kind} is left out.")
            continue
        if sound.encoded_as:
            notes.append(f"{target.suffix} files cannot hold {kind} sound; it was re-encoded as {sound.encoded_as}.")
    others = [s.type for s in clip.streams if s.type not in ("audio", "video")]
    videos = len(clip.streams.video) - 1
    left_out = [f"{count} {kind}" for kind in sorted(set(others)) if (count := others.count(kind))]
    left_out += [f"{videos} more video"] if videos else []
    if left_out:
        notes.append(f"Streams of {Path(clip.name).name} that are left out: {', '.join(left_out)}.")
    return sounds


class Sound(_Track):
    """One stream of sound: its packets are copied, or re-encoded if the container cannot hold them.

    encoded_as: the new codec and layout, or None if it is copied. num_dropped: packets that came too late.
    Raises ValueError if the sound can be neither copied nor encoded.
    """

    def __init__(self, av: Any, out: Any, target: Path, stream: Any, start: Fraction) -> None:
        super().__init__(av, out, target)
        self._shift = round(start / stream.time_base)
        self._last: int | None = None
        self.encoded_as: str | None = None
        self.num_dropped = 0
        if stream.codec_context is None:
            raise ValueError("a codec that PyAV does not know")
        container, (_, _, encoder) = CONTAINERS[target.suffix.lower()]
        # Matroska counts in milliseconds, and packets of some kinds are shorter.
        self._least_step = 0 if container in ("matroska", "webm") else 1
        # MP4 refuses most kinds of uncompressed sound, but only after the last frame.
        is_refused_late = container == "mp4" and stream.codec_context.name.startswith("pcm_")
        if not is_refused_late and _holds(av, container, lambda out: out.add_stream_from_template(stream)):
            self._stream = out.add_stream_from_template(stream)
        else:
            rate, layout = _settings(av, container, encoder, stream.codec_context)
            self._stream = out.add_stream(encoder, rate=rate, layout=layout)
            self.encoded_as = f"{encoder}, {layout}"
        self._stream.metadata.update({key: value for key, value in stream.metadata.items() if key == "language"})

    def write(self, packet: Any) -> None:
        """Raises av.FFmpegError if the packet cannot be decoded, InputError if the target cannot be written."""
        if self.encoded_as is None:
            if packet.dts is None or packet.pts is None:  # the empty packet at the end
                return
            packet.pts -= self._shift
            packet.dts -= self._shift
            if self._last is not None and packet.dts < self._last + self._least_step:  # the container would refuse it
                self.num_dropped += 1
                return
            self._last = packet.dts
            packet.stream = self._stream
            with write_errors(self._av, self._target):
                self._out.mux(packet)
            return
        for frame in packet.decode():
            if frame.pts is not None:
                frame.pts -= self._shift
            self._encode(frame)

    def close(self) -> None:
        if self.encoded_as is not None:
            super().close()


def _holds(av: Any, container: str, add: Callable[[Any], object]) -> bool:
    """Whether a container accepts a stream. Only writing the header shows that, so one is written in memory."""
    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            add(trial)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True


def _settings(av: Any, container: str, encoder: str, context: Any) -> tuple[int, str]:
    """The nearest rate and layout that the encoder accepts. Raises ValueError if there is none."""
    rates = sorted(av.Codec(encoder, "w").audio_rates or [context.sample_rate])
    rate = 48000 if encoder == "libopus" else next((r for r in rates if r >= context.sample_rate), rates[-1])
    layouts = [context.layout.name, av.AudioLayout(f"{context.layout.nb_channels}c").name, "stereo"]
    if layouts[0].endswith("channels"):  # AVI, for one, has only their number
        del layouts[0]

    def is_held(layout: str) -> bool:
        return _holds(av, container, lambda out: out.add_stream(encoder, rate=rate, layout=layout))

    if (layout := next(filter(is_held, layouts), None)) is None:
        raise ValueError(f"{encoder} takes no such sound")
    return rate, layout

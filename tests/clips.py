"""Clips for tests: made frame by frame, with sound, and read back by their tags."""

from fractions import Fraction

import numpy as np
import pytest

av = pytest.importorskip("av")
Interpolation = pytest.importorskip("av.video.reformatter").Interpolation

EXACT = (
    Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)


def level(index):
    return 30 + 7 * index


def numbered(count, width=64, height=48):
    """Frames that tell their number by their brightness."""
    return [np.full((height, width, 3), level(index), np.uint8) for index in range(count)]


def make_clip(
    path,
    frames,
    *,
    codec="libx264",
    pix_fmt="yuv420p",
    rate=25,
    pts=None,
    time_base=None,
    tone=None,
    tone_start=0.0,
    tone_rate=48000,
    layout="mono",
    options=None,
    matrix=None,
    full=None,
    aspect=None,
    rotation=None,
):
    """tone: the codec of a 440 Hz tone as long as the clip, which begins at tone_start seconds."""
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, options=options or ({"crf": "5"} if codec == "libx264" else {}))
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        if time_base:
            stream.codec_context.time_base = time_base
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if matrix is not None:
            stream.codec_context.colorspace = matrix
        if full is not None:
            stream.codec_context.color_range = 2 if full else 1
        if rotation:
            stream.set_display_rotation(rotation)
        if tone:
            sound = out.add_stream(tone, rate=tone_rate, layout=layout)
            seconds = len(frames) / rate
            time = np.arange(round(tone_rate * seconds)) / tone_rate
            wave = (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
            wave = wave[None].repeat(av.AudioLayout(layout).nb_channels, 0)
            for begin in range(0, wave.shape[1], 960):
                frame = av.AudioFrame.from_ndarray(wave[:, begin : begin + 960].copy(), "fltp", layout)
                frame.sample_rate, frame.time_base = tone_rate, Fraction(1, tone_rate)
                frame.pts = round(tone_start * tone_rate) + begin
                out.mux(sound.encode(frame))
            out.mux(sound.encode(None))
        for index, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(array, "rgb24").reformat(
                format=pix_fmt,
                src_color_range="JPEG",
                dst_colorspace={1: "ITU709"}.get(matrix, "ITU601"),
                dst_color_range="JPEG" if full else "MPEG",
            )
            frame.pts = index if pts is None else pts[index]
            frame.time_base = stream.codec_context.time_base if time_base else Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def read(path):
    """Frames as RGB by the tags that they carry, their times in seconds, and the stream's properties."""
    with av.open(str(path)) as clip:
        stream = clip.streams.video[0]
        about = {
            "size": (stream.width, stream.height),
            "rate": stream.average_rate,
            "aspect": stream.sample_aspect_ratio,
            "seconds": clip.duration / 1e6,
            "codec": stream.codec_context.name,
            "pix_fmt": stream.pix_fmt,
        }
        arrays, times = [], []
        for frame in clip.decode(video=0):
            about |= {"matrix": frame.colorspace, "range": frame.color_range, "rotation": frame.rotation}
            about |= {"primaries": stream.codec_context.color_primaries, "transfer": stream.codec_context.color_trc}
            matrix = {1: "ITU709"}.get(frame.colorspace, "ITU601")
            color_range = "JPEG" if frame.color_range == 2 else "MPEG"
            rgb = frame.reformat(
                format="rgb24",
                src_colorspace=matrix,
                src_color_range=color_range,
                dst_color_range="JPEG",
                interpolation=EXACT,
            )
            arrays.append(rgb.to_ndarray())
            times.append(float(frame.pts * frame.time_base))
    return arrays, times, about


def sound(path):
    """Packets of the first stream of sound, and when it begins in seconds."""
    with av.open(str(path)) as clip:
        packets = [p for p in clip.demux(clip.streams.audio[0]) if p.dts is not None]
        return [bytes(p) for p in packets], float(packets[0].pts * packets[0].time_base), packets[0].stream.codec.name


def noisy(count):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(count)]

# mypy: ignore-errors
"""Triton kernels for norm, activation, residual and reflection padding of channels-last images.

`cyclegan.networks.fused` launches them. Names: (N, C, H, W) images lie in memory as (N, H * W, C); `padded` ones have
`PAD` mirrored rows and columns on each side. Statistics and arithmetic are float32. No kernel adds up with atomics, so
each result is the same in every run.

An image's statistics are found in two stages: each of `SPLITS` programs reduces a run of `per_split` pixels, and every
program that needs the result combines the parts itself, which is cheaper than one more launch.
"""

import triton
import triton.language as tl

# Values of NORM.
NONE = tl.constexpr(0)
INSTANCE = tl.constexpr(1)
LAYER = tl.constexpr(2)


@triton.jit
def _mirrored(index, count):
    """A position outside of [0, count) mirrored into it, without repeating the border."""
    index = tl.where(index < 0, -index, index)
    return tl.where(index >= count, 2 * (count - 1) - index, index)


@triton.jit
def _activated(z, SLOPE: tl.constexpr):
    """ReLU for a slope of 0, leaky ReLU for another one, the identity for 1. NaN stays NaN."""
    if SLOPE == 0.0:
        z = tl.where(z < 0.0, 0.0, z)
    elif SLOPE != 1.0:
        z = tl.where(z < 0.0, z * SLOPE, z)
    return z


@triton.jit
def _through_activation(g, z, SLOPE: tl.constexpr):
    """The gradient before the activation, from that behind it and the value z before it."""
    if SLOPE != 1.0:
        g = tl.where(z > 0.0, g, g * SLOPE)
    return g


@triton.jit
def fused_moments(
    x_ptr, mean_ptr, square_ptr, pixels, channels, per_split, PIXELS: tl.constexpr, CHANNELS: tl.constexpr
):  # fmt: skip
    """Mean and sum of squared differences from it of each channel, in one split of an image.

    Grid: (splits, channel tiles, images).
    """
    split, image = tl.program_id(0), tl.program_id(2)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = c < channels
    first = split * per_split
    last = tl.minimum(first + per_split, pixels)
    mean = tl.zeros([CHANNELS], tl.float32)
    square = tl.zeros([CHANNELS], tl.float32)
    for start in range(first, last, PIXELS):
        p = start + tl.arange(0, PIXELS)
        valid = (p < last)[:, None] & inside[None, :]
        x = tl.load(x_ptr + ((image * pixels + p) * channels)[:, None] + c[None, :], mask=valid, other=0.0)
        x = x.to(tl.float32)
        before = (start - first).to(tl.float32)
        count = tl.minimum(last - start, PIXELS).to(tl.float32)
        own_mean = tl.sum(x, axis=0) / count
        distance = tl.where(valid, x - own_mean[None, :], 0.0)
        # Chan, Golub and LeVeque 1979: no difference of large sums.
        change = own_mean - mean
        mean += change * (count / (before + count))
        square += tl.sum(distance * distance, axis=0) + change * change * (before * count / (before + count))
    at = (image * tl.num_programs(0) + split) * channels + c
    tl.store(mean_ptr + at, mean, mask=inside)
    tl.store(square_ptr + at, square, mask=inside)


@triton.jit
def _combined(
    mean_ptr, square_ptr, image, c, inside, pixels, channels, per_split, eps, SPLITS: tl.constexpr
):  # fmt: skip
    """Mean and reciprocal standard deviation of each channel, from the moments of all splits."""
    split = tl.arange(0, SPLITS)
    count = tl.minimum(tl.maximum(pixels - split * per_split, 0), per_split).to(tl.float32)[:, None]
    at = ((image * SPLITS + split) * channels)[:, None] + c[None, :]
    means = tl.load(mean_ptr + at, mask=inside[None, :], other=0.0)
    squares = tl.load(square_ptr + at, mask=inside[None, :], other=0.0)
    mean = tl.sum(means * count, axis=0) / pixels
    distance = means - mean[None, :]
    variance = tl.sum(squares + distance * distance * count, axis=0) / pixels
    return mean, 1.0 / tl.sqrt(variance + eps)


@triton.jit
def _over_channels(x, inside, channels, eps):
    """Mean and reciprocal standard deviation of each pixel of a tile that holds all channels."""
    mean = tl.sum(x, axis=1) / channels
    distance = tl.where(inside[None, :], x - mean[:, None], 0.0)
    variance = tl.sum(distance * distance, axis=1) / channels
    return mean, 1.0 / tl.sqrt(variance + eps)


@triton.jit(do_not_specialize=["height", "width", "per_split"])
def fused_forward(
    x_ptr,
    residual_ptr,
    plain_ptr,
    padded_ptr,
    mean_ptr,
    square_ptr,
    height,
    width,
    channels,
    per_split,
    eps,
    NORM: tl.constexpr,
    SLOPE: tl.constexpr,
    RESIDUAL: tl.constexpr,
    PLAIN: tl.constexpr,
    PAD: tl.constexpr,
    SPLITS: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """activation(norm(x)) + residual, as it is (PLAIN), padded (PAD > 0), or both.

    Grid: (tiles of pixels of the largest output, channel tiles, images).
    """
    image = tl.program_id(2)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = c < channels
    out_width, out_pixels = width + 2 * PAD, (height + 2 * PAD) * (width + 2 * PAD)
    o = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    exists = o < out_pixels
    y, x_ = o // out_width - PAD, o % out_width - PAD
    source = image * height * width + _mirrored(y, height) * width + _mirrored(x_, width)
    valid = exists[:, None] & inside[None, :]
    at = (source * channels)[:, None] + c[None, :]

    z = tl.load(x_ptr + at, mask=valid, other=0.0).to(tl.float32)
    if NORM == INSTANCE:
        mean, scale = _combined(
            mean_ptr, square_ptr, image, c, inside, height * width, channels, per_split, eps, SPLITS
        )
        z = (z - mean[None, :]) * scale[None, :]
    if NORM == LAYER:
        mean, scale = _over_channels(z, inside, channels, eps)
        z = (z - mean[:, None]) * scale[:, None]
    z = _activated(z, SLOPE)
    if RESIDUAL:
        z += tl.load(residual_ptr + at, mask=valid, other=0.0).to(tl.float32)

    if PAD > 0:
        z_out = z.to(padded_ptr.dtype.element_ty)
        tl.store(padded_ptr + ((image * out_pixels + o) * channels)[:, None] + c[None, :], z_out, mask=valid)
    if PLAIN:
        own = (y >= 0) & (y < height) & (x_ >= 0) & (x_ < width)
        tl.store(plain_ptr + at, z.to(plain_ptr.dtype.element_ty), mask=valid & own[:, None])


@triton.jit
def _source_of(place, count, PAD: tl.constexpr, WHICH: tl.constexpr, SMALL: tl.constexpr):
    """A position in a padded row or column that holds a copy of `place`, and whether there is one.

    WHICH: 0 the position itself, 1 the mirrored one, and with SMALL 1 that before the first and 2 that behind the last.
    Only in SMALL rows, of at most 2 * PAD + 1 positions, a place may be mirrored at both ends.
    """
    near, far = (place >= 1) & (place <= PAD), (place <= count - 2) & (place >= count - 1 - PAD)
    at_near, at_far = PAD - place, 2 * (count - 1) - place + PAD
    if WHICH == 0:
        at, there = place + PAD, place >= 0
    elif SMALL:
        if WHICH == 1:
            at, there = at_near, near
        else:
            at, there = at_far, far
    else:
        at, there = tl.where(near, at_near, at_far), near | far
    return at, there


@triton.jit
def _gathered(
    plain_ptr,
    padded_ptr,
    image,
    p,
    c,
    valid,
    height,
    width,
    channels,
    PLAIN: tl.constexpr,
    PAD: tl.constexpr,
    SMALL: tl.constexpr,
):
    """The gradient of pixels: of the output as it is, plus of all their copies in the padded one."""
    g = tl.zeros([p.shape[0], c.shape[0]], tl.float32)
    if PLAIN:
        at = ((image * height * width + p) * channels)[:, None] + c[None, :]
        g += tl.load(plain_ptr + at, mask=valid, other=0.0).to(tl.float32)
    if PAD > 0:
        y, x = p // width, p % width
        out_width = width + 2 * PAD
        first = image * (height + 2 * PAD) * out_width
        for row in tl.static_range(3 if SMALL else 2):
            at_y, has_y = _source_of(y, height, PAD, row, SMALL)
            for column in tl.static_range(3 if SMALL else 2):
                at_x, has_x = _source_of(x, width, PAD, column, SMALL)
                at = ((first + at_y * out_width + at_x) * channels)[:, None] + c[None, :]
                there = (has_y & has_x)[:, None] & valid
                g += tl.load(padded_ptr + at, mask=there, other=0.0).to(tl.float32)
    return g


@triton.jit(do_not_specialize=["height", "width", "per_split"])
def fused_reduce_grads(
    x_ptr,
    plain_ptr,
    padded_ptr,
    grad_ptr,
    mean_ptr,
    square_ptr,
    sum_ptr,
    dot_ptr,
    height,
    width,
    channels,
    per_split,
    eps,
    SLOPE: tl.constexpr,
    PLAIN: tl.constexpr,
    PAD: tl.constexpr,
    SMALL: tl.constexpr,
    WRITE: tl.constexpr,
    SPLITS: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Backward pass of instance norm, first half: sums of the gradient behind the norm, and of its product with the
    normalised values, in one split of an image. WRITE: the gradient as well, gathered from both outputs.

    Grid: (splits, channel tiles, images).
    """
    split, image = tl.program_id(0), tl.program_id(2)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = c < channels
    pixels = height * width
    mean, scale = _combined(mean_ptr, square_ptr, image, c, inside, pixels, channels, per_split, eps, SPLITS)
    first = split * per_split
    last = tl.minimum(first + per_split, pixels)
    total = tl.zeros([CHANNELS], tl.float32)
    dot = tl.zeros([CHANNELS], tl.float32)
    for start in range(first, last, PIXELS):
        p = start + tl.arange(0, PIXELS)
        valid = (p < last)[:, None] & inside[None, :]
        at = ((image * pixels + p) * channels)[:, None] + c[None, :]
        z = tl.load(x_ptr + at, mask=valid, other=0.0).to(tl.float32)
        z = (z - mean[None, :]) * scale[None, :]
        g = _gathered(plain_ptr, padded_ptr, image, p, c, valid, height, width, channels, PLAIN, PAD, SMALL)
        g = _through_activation(g, z, SLOPE)
        if WRITE:
            rounded = g.to(grad_ptr.dtype.element_ty)
            tl.store(grad_ptr + at, rounded, mask=valid)
            g = rounded.to(tl.float32)
        total += tl.sum(g, axis=0)
        dot += tl.sum(g * z, axis=0)
    at = (image * tl.num_programs(0) + split) * channels + c
    tl.store(sum_ptr + at, total, mask=inside)
    tl.store(dot_ptr + at, dot, mask=inside)


@triton.jit(do_not_specialize=["height", "width", "per_split"])
def fused_backward(
    x_ptr,
    plain_ptr,
    padded_ptr,
    grad_ptr,
    residual_ptr,
    mean_ptr,
    square_ptr,
    sum_ptr,
    dot_ptr,
    height,
    width,
    channels,
    per_split,
    eps,
    NORM: tl.constexpr,
    SLOPE: tl.constexpr,
    RESIDUAL: tl.constexpr,
    PLAIN: tl.constexpr,
    PAD: tl.constexpr,
    SMALL: tl.constexpr,
    SPLITS: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """The gradient of x, and with RESIDUAL that of the residual. For instance norm: the second half, PAD is 0.

    Grid: (tiles of pixels, channel tiles, images).
    """
    image = tl.program_id(2)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = c < channels
    pixels = height * width
    p = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    valid = (p < pixels)[:, None] & inside[None, :]
    at = ((image * pixels + p) * channels)[:, None] + c[None, :]

    g = _gathered(plain_ptr, padded_ptr, image, p, c, valid, height, width, channels, PLAIN, PAD, SMALL)
    if RESIDUAL:
        tl.store(residual_ptr + at, g.to(residual_ptr.dtype.element_ty), mask=valid)
    if NORM == NONE:
        if SLOPE != 1.0:
            z = tl.load(x_ptr + at, mask=valid, other=0.0).to(tl.float32)
            g = _through_activation(g, z, SLOPE)
    else:
        z = tl.load(x_ptr + at, mask=valid, other=0.0).to(tl.float32)
        if NORM == INSTANCE:
            mean, scale = _combined(mean_ptr, square_ptr, image, c, inside, pixels, channels, per_split, eps, SPLITS)
            z = (z - mean[None, :]) * scale[None, :]
            g = _through_activation(g, z, SLOPE)
            parts = ((image * SPLITS + tl.arange(0, SPLITS)) * channels)[:, None] + c[None, :]
            mean_g = tl.sum(tl.load(sum_ptr + parts, mask=inside[None, :], other=0.0), axis=0) / pixels
            mean_gz = tl.sum(tl.load(dot_ptr + parts, mask=inside[None, :], other=0.0), axis=0) / pixels
            g = (g - mean_g[None, :] - z * mean_gz[None, :]) * scale[None, :]
        else:
            mean, scale = _over_channels(z, inside, channels, eps)
            z = tl.where(inside[None, :], (z - mean[:, None]) * scale[:, None], 0.0)
            g = _through_activation(g, z, SLOPE)
            mean_g = tl.sum(g, axis=1) / channels
            mean_gz = tl.sum(g * z, axis=1) / channels
            g = (g - mean_g[:, None] - z * mean_gz[:, None]) * scale[:, None]
    tl.store(grad_ptr + at, g.to(grad_ptr.dtype.element_ty), mask=valid)

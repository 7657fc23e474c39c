"""Scores of images against the truth. Arrays or tensors in [-1, 1], as everywhere."""

import math

import torch
from torch import Tensor


def l1(image: Tensor, truth: Tensor) -> float:
    """Mean absolute difference of two (C, H, W) images in [-1, 1]; 0 is equal, 2 is black against white."""
    return float((image - truth).abs().mean())


def psnr(image: Tensor, truth: Tensor) -> float:
    """Peak signal-to-noise ratio of two (C, H, W) images in [-1, 1], in dB; infinite where they are equal."""
    error = float(torch.mean((image.double() - truth.double()).square()))
    return 10 * math.log10(4 / error) if error > 0 else math.inf

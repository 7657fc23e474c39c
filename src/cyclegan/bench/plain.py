"""The plain eager float32 side of every comparison, written directly from the paper.

Six calls of the generators one after another, four of the discriminators, `nn.Sequential`s, torch's default Adam.
`cyclegan bench` and the scripts in benchmarks/ share it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

# The settings of ModelConfig that these networks have.
PLAIN_NETWORKS = {"generator": "resnet", "discriminator": "patch", "norm": "instance", "dropout": False}


@dataclass(frozen=True)
class Case:
    """Sizes of images, in pixels, and of networks. identity: with the identity loss, which needs equal channels."""

    size: int
    blocks: int
    width: int = 64
    discriminator_width: int = 64
    discriminator_layers: int = 3
    channels_a: int = 3
    channels_b: int = 3
    identity: bool = True


def plain_generator(blocks: int, width: int = 64, channels_in: int = 3, channels_out: int = 3) -> "nn.Module":
    """A resnet with instance norm, (N, channels_in, H, W) -> (N, channels_out, H, W); H and W multiples of 4."""
    from torch import nn

    wide = 4 * width

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers = [nn.ReflectionPad2d(1), nn.Conv2d(wide, wide, 3), nn.InstanceNorm2d(wide)]
            again = [nn.ReflectionPad2d(1), nn.Conv2d(wide, wide, 3), nn.InstanceNorm2d(wide)]
            self.layers = nn.Sequential(*layers, nn.ReLU(), *again)

        def forward(self, x: "Tensor") -> "Tensor":
            y: Tensor = x + self.layers(x)
            return y

    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(channels_in, width, 7)]
    layers += [nn.InstanceNorm2d(width), nn.ReLU()]
    for c in (width, 2 * width):
        layers += [nn.Conv2d(c, 2 * c, 3, 2, 1), nn.InstanceNorm2d(2 * c), nn.ReLU()]
    layers += [Block() for _ in range(blocks)]
    for c in (4 * width, 2 * width):
        layers += [nn.ConvTranspose2d(c, c // 2, 3, 2, 1, 1), nn.InstanceNorm2d(c // 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, channels_out, 7), nn.Tanh())


def plain_discriminator(width: int = 64, num_layers: int = 3, channels: int = 3) -> "nn.Module":
    """A patch discriminator with instance norm."""
    from torch import nn

    layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    c = width
    for index in range(num_layers):
        out = width * min(2 ** (index + 1), 8)
        stride = 2 if index < num_layers - 1 else 1
        layers += [nn.Conv2d(c, out, 4, stride, 1), nn.InstanceNorm2d(out), nn.LeakyReLU(0.2)]
        c = out
    return nn.Sequential(*layers, nn.Conv2d(c, 1, 4, 1, 1))


def plain_step(case: Case, batch: int, device: str) -> Callable[[], None]:
    """A training step on random images, least squares, cycle and identity losses, without a pool."""
    import torch
    from torch import nn

    channels = case.channels_a, case.channels_b
    g, f = (plain_generator(case.blocks, case.width, *ends).to(device) for ends in (channels, channels[::-1]))
    d_a, d_b = (
        plain_discriminator(case.discriminator_width, case.discriminator_layers, count).to(device) for count in channels
    )
    g_parameters, d_parameters = [*g.parameters(), *f.parameters()], [*d_a.parameters(), *d_b.parameters()]
    g_adam = torch.optim.Adam(g_parameters, lr=2e-4, betas=(0.5, 0.999))
    d_adam = torch.optim.Adam(d_parameters, lr=2e-4, betas=(0.5, 0.999))
    a, b = (torch.rand(batch, count, case.size, case.size, device=device) * 2 - 1 for count in channels)
    l1, mse = nn.L1Loss(), nn.MSELoss()

    def adversarial(score: "Tensor", real: bool) -> "Tensor":
        loss: Tensor = mse(score, torch.full_like(score, float(real)))
        return loss

    def step() -> None:
        fake_b, fake_a = g(a), f(b)
        for parameter in d_parameters:
            parameter.requires_grad_(False)
        g_adam.zero_grad()
        loss = 10 * l1(f(fake_b), a) + 10 * l1(g(fake_a), b)
        if case.identity:
            loss = loss + 5 * l1(g(b), b) + 5 * l1(f(a), a)
        loss = loss + adversarial(d_b(fake_b), True) + adversarial(d_a(fake_a), True)
        torch.autograd.backward(loss)
        g_adam.step()
        for parameter in d_parameters:
            parameter.requires_grad_(True)
        d_adam.zero_grad()
        for network, real, fake in ((d_b, b, fake_b), (d_a, a, fake_a)):
            torch.autograd.backward(
                0.5 * (adversarial(network(real), True) + adversarial(network(fake.detach()), False))
            )
        d_adam.step()

    return step

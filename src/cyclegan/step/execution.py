"""Execute the steps of a state: in half precision, in two threads, in several processes, or compiled."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cyclegan.config import Direction
from cyclegan.networks import enable_checkpointing
from cyclegan.networks.layers import DTYPES
from cyclegan.networks.resnet import kernels_transformed
from cyclegan.step.master_weights import MasterWeights, trained
from cyclegan.step.sharing import Share
from cyclegan.step.terms import Input, Term, active_penalties, active_terms, needed_inputs
from cyclegan.step.two_threads import TwoThreads

if TYPE_CHECKING:
    from cyclegan.step.state import Discriminators, Generators, Heads, TrainState


class WithFeatures(nn.Module):
    """A generator that returns its features too: (output, *features), or the features alone without `decode`."""

    def __init__(self, network: nn.Module, *, decode: bool) -> None:
        super().__init__()
        self.network, self.decode = network, decode

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, C, H, W) -> the output and the features of `network.features`."""
        return self.network.features(x, decode=self.decode)  # type: ignore[no-any-return, operator]


@dataclass(frozen=True, kw_only=True)
class DirectionNetworks:
    """The networks and loss terms of one direction: G: X -> Y, the inverse F: Y -> X and the discriminator D_Y."""

    direction: Direction
    generator: nn.Module
    inverse: nn.Module
    discriminator: nn.Module
    # Projections of features of x inside G, and of G(x) inside F.
    real_heads: nn.Module | None
    fake_heads: nn.Module | None
    # The terms that apply, what they need, and all weights that get their gradients.
    terms: list[Term]
    needs: set[Input]
    trained: list[nn.Parameter]

    @property
    def target(self) -> str:
        """The domain of the translations, a or b."""
        return self.direction[-1]


class Execution:
    """Executes the steps of one state.

    Nothing here is part of a checkpoint, and a state can continue with another execution at any step. Networks are
    those of the state, or copies in the precision of the run with the same weights after `sync`.
    """

    def __init__(self, state: "TrainState", *, side_by_side: bool = True, share: Share | None = None) -> None:
        """side_by_side: on a CPU, work on both directions at once where the result is the same bit for bit.

        share: the part of each step that this process computes; default: the whole step.
        """
        self.config = config = state.config
        model = config.model
        self.share = share or Share()
        if config.checkpoint_activations:
            enable_checkpointing(state.generator.a2b)
            enable_checkpointing(state.generator.b2a)

        # Statistics of batch norm, and second derivatives in a penalty, need networks in float32. These round their
        # weights at each use instead.
        dtype = torch.float32 if model.uses_batch_norm else DTYPES[config.precision]
        penalised = config.adversarial == "wgan-gp" or bool(active_penalties(config))
        exact = penalised or model.discriminator_norm == "spectral"
        self.generator: MasterWeights[Generators] = MasterWeights(state.generator, state.generator_weights, dtype)
        self.discriminator: MasterWeights[Discriminators] = MasterWeights(
            state.discriminator, state.discriminator_weights, torch.float32 if exact else dtype
        )
        self.heads: MasterWeights[Heads] | None = None
        if state.heads is not None:
            assert state.head_weights is not None
            self.heads = MasterWeights(state.heads, state.head_weights, torch.float32)
        if config.compile:
            for network in (*self.generator.network.children(), *self.discriminator.network.children()):
                network.compile(dynamic=False)  # in place, so names and weights stay the same

        # Batch norm's statistics and dropout's random numbers depend on the order of the directions, and torch.compile
        # is not thread-safe.
        ordered = model.uses_batch_norm or model.dropout or config.compile or not self.share.is_whole
        self.two_threads = TwoThreads(side_by_side=side_by_side and state.device.type == "cpu" and not ordered)

        # With AVX-512 the ordinary convolutions are faster; other CPUs were not measured.
        avx2 = torch.backends.cpu.get_cpu_capability() == "AVX2"
        avx2 &= torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
        fp32 = config.precision == "fp32" and state.device.type == "cpu"
        self.uses_winograd = avx2 and fp32 and not config.compile

        self.directions: dict[Direction, DirectionNetworks] = {
            "a2b": self._direction("a2b"),
            "b2a": self._direction("b2a"),
        }
        # Set by the training loop, see `cycle_end`; a tensor, so that a CUDA graph reads it at each replay.
        self.cycle_factor = torch.ones((), device=state.device)
        self._with_features: dict[tuple[nn.Module, bool], WithFeatures] = {}

    def _direction(self, direction: Direction) -> DirectionNetworks:
        generators, discriminators = self.generator.network, self.discriminator.network
        to_b = direction == "a2b"
        real_heads = fake_heads = None
        if self.heads is not None:
            a, b = self.heads.network.a, self.heads.network.b
            real_heads, fake_heads = (a, b) if to_b else (b, a)
        return DirectionNetworks(
            direction=direction,
            generator=generators.a2b if to_b else generators.b2a,
            inverse=generators.b2a if to_b else generators.a2b,
            discriminator=discriminators.b if to_b else discriminators.a,
            real_heads=real_heads,
            fake_heads=fake_heads,
            terms=active_terms(self.config, direction),
            needs=needed_inputs(self.config, direction),
            trained=[*self.generator.trained, *([] if fake_heads is None else trained(fake_heads))],
        )

    def fewer_multiplications(self) -> AbstractContextManager[None]:
        """Within, generators compute as in `networks.winograd`, if `uses_winograd`. Weights must not change within."""
        return kernels_transformed(self.generator.network) if self.uses_winograd else nullcontext()

    def weighted(self, loss: Tensor) -> Tensor:
        """A mean over the images of this process, as its part of the mean over the batch."""
        return loss if self.share.parts == 1 else loss * self.share.weight

    def start_adding_up(self, weights: MasterWeights[Any]) -> Callable[[], None]:
        """Start to add up the gradients for an optimiser over all processes.

        Returns a function that waits for the sum.
        """
        assert weights.weights.grad is not None
        return self.share.processes.start_adding_up(weights.weights.grad)

    def apply(self, network: nn.Module, x: Tensor) -> Any:
        """Return network(x) in the precision of the run; input and output are float32."""
        return network(prepare(x, self.config.precision))

    def apply_each(self, network: nn.Module, inputs: list[Tensor]) -> list[Tensor]:
        """The outputs for several inputs, in one call if the result is the same: fewer and larger operations."""
        if not self._can_join(inputs):
            return [self.apply(network, x) for x in inputs]
        return list(torch.split(self.apply(network, torch.cat(inputs)), [len(x) for x in inputs]))

    def apply_with_features(
        self, network: nn.Module, inputs: list[Tensor], *, decode: bool = True
    ) -> tuple[list[Tensor], list[Tensor]]:
        """`apply_each` of a generator, and the features of the first input.

        decode: without it the generator stops after its features, and the first input has no output.
        """
        with_features = self.with_features(network, decode=decode)
        if decode and self._can_join(inputs):
            joined, *features = self.apply(with_features, torch.cat(inputs))
            return list(torch.split(joined, [len(x) for x in inputs])), [x[: len(inputs[0])] for x in features]
        found = list(self.apply(with_features, inputs[0]))
        outputs = [found.pop(0)] if decode else []
        return outputs + [self.apply(network, x) for x in inputs[1:]], found

    def with_features(self, network: nn.Module, *, decode: bool) -> WithFeatures:
        """The `WithFeatures` of a network; always the same object, which is compiled once."""
        if (network, decode) not in self._with_features:
            module = self._with_features[network, decode] = WithFeatures(network, decode=decode)
            if self.config.compile:
                module.compile(dynamic=False)  # it calls `features`, which compiling the network leaves as it is
        return self._with_features[network, decode]

    def _can_join(self, inputs: list[Tensor]) -> bool:
        # With batch norm the images of a batch influence each other.
        alike = len({x.shape[1:] for x in inputs}) == 1
        return len(inputs) > 1 and alike and not self.config.model.uses_batch_norm


def prepare(x: Tensor, precision: str) -> Tensor:
    """Images in the type of a precision, fp32, bf16 or fp16, and in the memory format that networks compute in."""
    # Fast convolutions of CPUs and GPUs work in channels-last, and would convert other formats at every call.
    layout = torch.contiguous_format if x.device.type == "mps" else torch.channels_last
    return x.to(DTYPES[precision], memory_format=layout)

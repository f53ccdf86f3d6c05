"""Kernels tied under mirroring and quarter turns, so that a downscaler commutes with them.

Channels come in orbits of 8: one kernel is trained, the others are it mirrored and turned (a
network that is equivariant under the group D4: Cohen and Welling 2016, group equivariant
convolutions). The stored weights are those of an ordinary network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from learned_downscale.core.downscaler import Downscaler

# The elements of D4: (mirrored, quarter turns)
ELEMENTS = tuple((mirrored, turns) for mirrored in (False, True) for turns in range(4))
ORBIT = len(ELEMENTS)


def _turned(kernel: Tensor, element: tuple[bool, int]) -> Tensor:
    """The last two dimensions mirrored, then turned."""
    mirrored, turns = element
    return torch.rot90(kernel.flip(-1) if mirrored else kernel, turns, (-2, -1))


def _relative() -> list[list[int]]:
    """[a][b]: the place of the element a^-1 b, found by its effect on a pattern."""
    pattern = torch.arange(9.0).view(3, 3)
    images = [_turned(pattern, element) for element in ELEMENTS]

    def place(image: Tensor) -> int:
        return next(i for i, one in enumerate(images) if torch.equal(one, image))

    product = [[place(_turned(_turned(pattern, b), a)) for b in ELEMENTS] for a in ELEMENTS]
    inverse = [row.index(0) for row in product]
    return [[product[inverse[a]][b] for b in range(ORBIT)] for a in range(ORBIT)]


_RELATIVE = _relative()


class _Outputs(nn.Module):
    """(O, C, k, k) -> (8 O, C, k, k): the output channels of an orbit are one kernel, turned."""

    def forward(self, trained: Tensor) -> Tensor:
        return torch.stack([_turned(trained, e) for e in ELEMENTS], 1).flatten(0, 1)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight[::ORBIT].clone()


class _Inputs(nn.Module):
    """(C, O, k, k) -> (C, 8 O, k, k): the same of the input channels."""

    def forward(self, trained: Tensor) -> Tensor:
        return torch.stack([_turned(trained, e) for e in ELEMENTS], 2).flatten(1, 2)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight[:, ::ORBIT].clone()


class _Both(nn.Module):
    """(O, 8 I, k, k) -> (8 O, 8 I, k, k): input channels are permuted as output channels turn."""

    def forward(self, trained: Tensor) -> Tensor:
        orbits = trained.unflatten(1, (-1, ORBIT))
        turned = [_turned(orbits[:, :, _RELATIVE[a]], e) for a, e in enumerate(ELEMENTS)]
        return torch.stack(turned, 1).flatten(0, 1).flatten(1, 2)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight[::ORBIT].clone()


def tie(E: Downscaler) -> Downscaler:
    """Tie the kernels of a downscaler whose residual is shared by the channels; returns it.

    Raises:
        ValueError: its channels are no multiple of 8, or its residual is not shared.
    """
    if not E.shared or E.channels % ORBIT:
        raise ValueError(
            f"kernels are tied in orbits of {ORBIT} channels of a shared residual; got "
            f"{E.channels} channels, shared {E.shared}"
        )
    for layer, parts in ((E.stem, _Outputs()), (E.hidden, _Both()), (E.out, _Inputs())):
        parametrize.register_parametrization(layer, "weight", parts)
    return E


def untied(E: nn.Module) -> nn.Module:
    """A copy of a tied downscaler with ordinary weights; anything else is returned unchanged."""
    if not isinstance(E, Downscaler) or not parametrize.is_parametrized(E.stem):
        return E
    plain = Downscaler(**E.config).to(E.stem.weight.device)
    layers = ("stem", "hidden", "out")
    plain.load_state_dict({f"{n}.weight": getattr(E, n).weight.detach() for n in layers})
    return plain

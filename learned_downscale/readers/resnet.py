"""ResNet, as Hugging Face has it, with normalisation inside and batch norm folded in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learned_downscale.core.arguments import check_flag, check_number, check_whole
from learned_downscale.readers.network import ClassifierNetwork, folded

REDUCTION = 4  # of the channels inside a bottleneck


class ResNet(ClassifierNetwork):
    """A residual network; see `ClassifierNetwork` for inputs and outputs.

    Args:
        embedding: channels of the first layer (7x7).
        hidden: channels of each stage.
        depths: blocks of each stage.
        bottleneck: blocks of 1x1, 3x3, 1x1 layers; else of two 3x3 layers.
        stride_first: the stride of a bottleneck is that of its first layer (v1); else of its 3x3.
        downsample_first: the first stage has a stride of 2, too.
        mean, std: the input is normalised by these, per channel.
        stem_stride: of the first layer.

    Source: He et al. 2016; names and variants as in Hugging Face transformers.
    """

    architecture: ClassVar[str] = "resnet"

    def __init__(
        self,
        embedding: int,
        hidden: Sequence[int],
        depths: Sequence[int],
        bottleneck: bool,
        stride_first: bool,
        downsample_first: bool,
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        stem_stride: int = 2,
        input_scale: float = 1.0,
        input_side: int = 0,
        architecture: str = "resnet",
    ) -> None:
        super().__init__(
            architecture,
            embedding=embedding,
            hidden=list(hidden),
            depths=list(depths),
            bottleneck=bottleneck,
            stride_first=stride_first,
            downsample_first=downsample_first,
            classes=classes,
            mean=list(mean),
            std=list(std),
            stem_stride=stem_stride,
            input_scale=input_scale,
            input_side=input_side,
        )
        check_flag("bottleneck", bottleneck)
        check_flag("stride_first", stride_first)
        check_flag("downsample_first", downsample_first)
        _check_layers(embedding, hidden, depths, bottleneck)
        if len(mean) != 3 or len(std) != 3:
            raise ValueError(f"mean and std have {len(mean)} and {len(std)} values, not 3")
        for channel in range(3):
            check_number("mean", mean[channel], -10, 10)
            check_number("std", std[channel], 1e-6, 10)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.stem = nn.Conv2d(3, embedding, 7, stem_stride, 3)
        self.stages = nn.Sequential()
        inside = embedding
        for n, (outside, depth) in enumerate(zip(hidden, depths, strict=True)):
            stride = 2 if n or downsample_first else 1
            blocks = [
                _Block(
                    outside if i else inside, outside, 1 if i else stride, bottleneck, stride_first
                )
                for i in range(depth)
            ]
            self.stages.append(nn.Sequential(*blocks))
            inside = outside
        self.classify = nn.Linear(inside, classes)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def feature_map(self, x: Tensor) -> Tensor:
        x = ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return self.stages(F.max_pool2d(F.relu(self.stem(x)), 3, 2, 1))

    @classmethod
    def from_transformers(
        cls, model: Any, mean: Sequence[float], std: Sequence[float]
    ) -> Self | None:
        """The network of a transformers `ResNetForImageClassification`; None for other models and
        for its rare variants (another activation than ReLU, other than 3 channels)."""
        config = model.config
        usual = ("resnet", "relu", 3)
        if (
            config.model_type,
            *(getattr(config, k, None) for k in ("hidden_act", "num_channels")),
        ) != usual:
            return None
        ours = cls(
            config.embedding_size,
            config.hidden_sizes,
            config.depths,
            bottleneck=config.layer_type == "bottleneck",
            stride_first=config.downsample_in_bottleneck,
            downsample_first=config.downsample_in_first_stage,
            classes=config.num_labels,
            mean=mean,
            std=std,
        )
        ours.load_state_dict(_our_names(model.state_dict()))
        return ours.eval().requires_grad_(False)


def _check_layers(
    embedding: int, hidden: Sequence[int], depths: Sequence[int], bottleneck: bool
) -> None:
    """Raise ValueError for layers that make no network, or one that fills the memory."""
    check_whole("embedding", embedding, 1, 4096)
    check_whole("the number of stages", len(hidden), 1, 8)
    check_whole("the number of depths", len(depths), len(hidden), len(hidden))
    for outside, depth in zip(hidden, depths, strict=True):
        check_whole("hidden", outside, REDUCTION, 4096)
        check_whole("depths", depth, 1, 64)
    squares = sum(h * h * d for h, d in zip(hidden, depths, strict=True))
    # a block's weights: about h^2 (1 / 4 + 9 / 16 + 1 / 4), or h^2 (9 + 9)
    check_whole("the number of weights", squares * (1 if bottleneck else 18), 1, 2**29)


class _Block(nn.Module):
    """relu(shortcut(x) + layers(x)), with ReLU between the layers."""

    def __init__(
        self, inside: int, outside: int, stride: int, bottleneck: bool, stride_first: bool
    ) -> None:
        super().__init__()
        same = inside == outside and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inside, outside, 1, stride)
        if bottleneck:
            middle = outside // REDUCTION
            first, second = (stride, 1) if stride_first else (1, stride)
            layers = [
                nn.Conv2d(inside, middle, 1, first),
                nn.Conv2d(middle, middle, 3, second, 1),
                nn.Conv2d(middle, outside, 1),
            ]
        else:
            layers = [
                nn.Conv2d(inside, outside, 3, stride, 1),
                nn.Conv2d(outside, outside, 3, 1, 1),
            ]
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i, layer in enumerate(self.layers):
            y = layer(F.relu(y) if i else y)
        return F.relu(y + self.shortcut(x))


def _our_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Their weights under our names, with batch norm folded in."""
    ours = {
        "classify.weight": state["classifier.1.weight"],
        "classify.bias": state["classifier.1.bias"],
    }
    for key, weight in state.items():
        if not key.endswith(".convolution.weight"):
            continue
        path = key.removesuffix(".convolution.weight")
        parts = ("weight", "bias", "running_mean", "running_var")
        statistics = [state[f"{path}.normalization.{part}"] for part in parts]
        name = "stem"
        if path != "resnet.embedder.embedder":
            _, _, _, stage, _, block, layer, *n = path.split(".")
            name = ".".join(["stages", stage, block, {"layer": "layers"}.get(layer, layer), *n])
        ours[f"{name}.weight"], ours[f"{name}.bias"] = folded(weight, statistics, eps=1e-5)
    return ours

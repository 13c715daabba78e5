"""Networks without spikes, of layers that can be converted: VGG 5, 9, 11, 16 and ResNet-20.

An ANN that `convert` takes is an `nn.Sequential` of these, nested as you like:

    synapses    nn.Conv2d (zero padding), nn.Linear
    norm        nn.BatchNorm1d, nn.BatchNorm2d, right behind synapses
    activation  nn.ReLU
    pooling     nn.AvgPool2d, nn.MaxPool2d
    the rest    nn.Dropout, nn.Flatten, nn.Identity, `Residual`

It ends in synapses, whose outputs are the class scores.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from torch import Tensor, nn

from ..errors import ParameterError

SYNAPSES = (nn.Conv2d, nn.Linear)
POOLS = (nn.AvgPool2d, nn.MaxPool2d)
PLAIN = (nn.Dropout, nn.Flatten, nn.Identity)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)

VGG: dict[int, tuple[int | str, ...]] = {
    5: (64, "A", 128, 128, "A"),
    9: (64, "A", 128, 256, "A", 256, 512, "A", 512, "A", 512),
    11: (64, "A", 128, 256, "A", 512, 512, "A", 512, "A", 512, 512, 512),
    16: (64, 64, "A", 128, 128, "A", 256, 256, 256, "A", 512, 512, 512, "A", 512, 512, 512),
}
"""Depth → channels of the convolutions, "A" where 2×2 average pooling follows; linear layers come after."""


class Residual(nn.Module):
    """y = body(x) + shortcut(x); without a shortcut, x itself is added."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x) + self.shortcut(x)
        return y


def vgg(
    depth: int,
    classes: int = 10,
    channels: int = 3,
    size: int = 32,
    *,
    width: float = 1.0,
    hidden: int = 512,
    dropout: float = 0.2,
    maximum: bool = False,
) -> nn.Sequential:
    """A VGG with batch norm, ReLU, average pooling and dropout, for ``[B, channels, size, size]``.

    depth    5, 9, 11 or 16 layers with weights; 16 has two hidden linear layers, the others one
    width    factor on the 64 to 512 channels of the convolutions
    hidden   neurons of a hidden linear layer
    dropout  share of activations set to 0 after each ReLU that no pooling follows
    maximum  max pooling instead of average pooling

    Images too small for all poolings (8×8 digits) get the first ones only.
    """
    if depth not in VGG:
        raise ParameterError(f"there is no VGG of depth {depth}; choose one of {', '.join(map(str, VGG))}.")
    _positive(channels=channels, size=size, width=width, hidden=hidden, classes=classes)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    plan, n = VGG[depth], 0
    for k, item in enumerate(plan):
        if item == "A":
            if size >= 2:
                layers[f"pool{n}"] = nn.MaxPool2d(2) if maximum else nn.AvgPool2d(2)
                size //= 2
            continue
        out, n = max(1, round(int(item) * width)), n + 1
        layers[f"conv{n}"] = nn.Conv2d(channels, out, 3, padding=1, bias=False)
        layers[f"norm{n}"] = nn.BatchNorm2d(out)
        layers[f"relu{n}"] = nn.ReLU(inplace=True)
        if dropout and (k + 1 == len(plan) or plan[k + 1] != "A"):
            layers[f"drop{n}"] = nn.Dropout(dropout)
        channels = out
    layers["flatten"] = nn.Flatten()
    features = channels * size * size
    for _ in range(2 if depth == 16 else 1):
        n += 1
        layers[f"linear{n}"] = nn.Linear(features, hidden, bias=False)
        layers[f"norm{n}"] = nn.BatchNorm1d(hidden)
        layers[f"relu{n}"] = nn.ReLU(inplace=True)
        if dropout:
            layers[f"drop{n}"] = nn.Dropout(dropout)
        features = hidden
    layers["out"] = nn.Linear(features, classes)
    return _started(nn.Sequential(layers))


def resnet20(
    classes: int = 10, channels: int = 3, size: int = 32, *, width: float = 1.0, dropout: float = 0.0
) -> nn.Sequential:
    """ResNet-20 of He et al. 2016 for ``[B, channels, size, size]``: three stages of three blocks.

    width    factor on the 16, 32 and 64 channels
    dropout  share of activations set to 0 after the first ReLU of each block

    A block that changes the shape has a 1×1 convolution in its shortcut. `size` must divide by 4.
    """
    _positive(channels=channels, size=size, width=width, classes=classes)
    if size % 4:
        raise ParameterError(f"ResNet-20 halves the image twice: size = {size} does not divide by 4.")
    first = max(1, round(16 * width))
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(channels, first, 3, padding=1, bias=False),
        norm=nn.BatchNorm2d(first),
        relu=nn.ReLU(inplace=True),
    )
    n_in = first
    for stage in range(3):
        n_out = max(1, round(16 * 2**stage * width))
        for block in range(3):
            stride = 2 if stage and not block else 1
            name = f"{stage + 1}{'abc'[block]}"
            layers[f"block{name}"] = _block(n_in, n_out, stride, dropout)
            layers[f"relu{name}"] = nn.ReLU(inplace=True)
            n_in = n_out
    layers["pool"] = nn.AvgPool2d(size // 4)
    layers["flatten"] = nn.Flatten()
    layers["out"] = nn.Linear(n_in, classes)
    return _started(nn.Sequential(layers))


def _block(n_in: int, n_out: int, stride: int, dropout: float) -> Residual:
    body = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False),
            norm1=nn.BatchNorm2d(n_out),
            relu1=nn.ReLU(inplace=True),
            drop1=nn.Dropout(dropout) if dropout else nn.Identity(),
            conv2=nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False),
            norm2=nn.BatchNorm2d(n_out),
        )
    )
    if stride == 1 and n_in == n_out:
        return Residual(body)
    conv = nn.Conv2d(n_in, n_out, 1, stride, bias=False)
    return Residual(body, nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(n_out))))


MODELS = ("vgg5", "vgg9", "vgg11", "vgg16", "resnet20")


def build_ann(
    name: str, classes: int, channels: int, size: int, *, width: float = 1.0, dropout: float = 0.2,
    hidden: int = 512,
) -> nn.Sequential:  # fmt: skip
    """A network by name, one of `MODELS`, with the weights that the torch seed gives."""
    if name not in MODELS:
        raise ParameterError(f"unknown network {name!r}; known are {', '.join(MODELS)}.")
    if name == "resnet20":
        return resnet20(classes, channels, size, width=width, dropout=dropout)
    return vgg(int(name[3:]), classes, channels, size, width=width, hidden=hidden, dropout=dropout)


def leaves(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers that compute something, in order of execution, by name; a `Residual` is entered."""
    if isinstance(module, nn.Sequential) or type(module) is Residual:
        for name, part in module.named_children():
            yield from leaves(part, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix, module


def check_ann(ann: nn.Module) -> None:
    """Raise `ParameterError` naming the first layer that can't be converted."""
    if not isinstance(ann, nn.Sequential):
        raise ParameterError(f"an ANN to convert is an nn.Sequential, got {type(ann).__name__}.")
    found = list(leaves(ann))
    for name, layer in found:
        where = f"layer {name!r} ({type(layer).__name__})"
        if isinstance(layer, (nn.ReLU, *NORMS, *POOLS, *PLAIN, nn.Linear)):
            continue
        if isinstance(layer, nn.Conv2d):
            if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
                raise ParameterError(f"{where}: only zero padding given as numbers can be converted.")
            continue
        if type(layer).__module__ == nn.ReLU.__module__:
            raise ParameterError(
                f"{where}: only ReLU becomes a spiking neuron; replace the activation and train again."
            )
        raise ParameterError(
            f"{where} can't be converted; known are Conv2d, Linear, BatchNorm, ReLU, AvgPool2d, MaxPool2d, "
            "Dropout, Flatten and Residual."
        )
    if not any(isinstance(layer, nn.ReLU) for _, layer in found):
        raise ParameterError("the ANN has no ReLU, so nothing in it could spike.")
    top = [layer for _, layer in leaves(ann) if isinstance(layer, (*SYNAPSES, nn.ReLU, *NORMS))]
    if isinstance(top[-1], nn.ReLU):
        raise ParameterError("the ANN ends in a ReLU; end it in the linear layer that gives the scores.")


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ParameterError(f"{name} = {value} must be positive.")


def _started(network: nn.Sequential) -> nn.Sequential:
    """Kaiming's initial weights for ReLU."""
    for module in network.modules():
        if isinstance(module, SYNAPSES):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network

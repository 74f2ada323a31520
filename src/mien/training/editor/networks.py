"""The networks of learned editing, on windows of 64 pixels of luma in 0..1 (`mien.editing.corrector`).

Three editors, to be compared after equal training time:

- `Corrector`, ours: takes the face before and after the analytic edit and adds flow and light to the latter.
- `Skip`: the same layers without flow: luma is added to the face itself, like US-GAN's skip from input to output (Chen
  et al. 2021).
- `StarGenerator`: generates the whole face, after StarGAN (Choi et al. 2018), with the polar code of GANmut's linear
  model (d'Apolito et al. 2021): neutral is the origin of a plane, each other expression an axis that is learnt.

*Given* (their published code): StarGAN's plan of 7 x 7 convolution, two halvings, residual blocks, two doublings,
instance normalisation and tanh; GANmut's unit axes, its random angles and its strengths from 0.2 to 1. *Chosen*: a
third of their widths and 64 px, so that they train in minutes on one core; spectral normalisation and the hinge in
place of the gradient penalty, which needs a second derivative; log gains instead of colours, as in
`mien.editing.shading`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from mien.editing.corrector import SIDE, fade
from mien.editing.geometry import ACTIVE
from mien.labels import EXPRESSIONS

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

FARTHEST = 2.5
"""Largest flow, pixels of the window."""
STRONGEST = 0.4
"""Largest log gain of a correction: 1.5 times darker."""
FOLD_SIDE = 13
"""Largest scale of a correction's light, in pixels of the window, about a fold of the skin: broader light is removed,
or patches would look lit by a lamp (as they did with 0.6 and no limit)."""
LIGHTER = 0.4
"""Factor of a correction's light where it brightens, after broad light was removed: folds are dark, and highlights that
a photo does not have look painted on."""


class Change(NamedTuple):
    """A correction: `flow` [n, 2, 16, 16] (x, y) in pixels of the window, and log `gain` [n, 1, 64, 64]."""

    flow: Tensor
    gain: Tensor


class Modulated(nn.Module):
    """A convolution, instance normalisation with a factor and offset computed from a condition, and SiLU."""

    def __init__(self, inputs: int, outputs: int, condition: int, stride: int = 1) -> None:
        super().__init__()
        self.convolve = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm = nn.InstanceNorm2d(outputs)
        self.modulate = nn.Linear(condition, 2 * outputs)

    def forward(self, maps: Tensor, condition: Tensor) -> Tensor:
        factor, offset = self.modulate(condition)[:, :, None, None].chunk(2, dim=1)
        return functional.silu(self.norm(self.convolve(maps)) * (1 + factor) + offset)


class Trunk(nn.Module):
    """Three halvings, two residual blocks, three doublings with skips: maps at 16 px [n, 48] and 64 px [n, 12]."""

    def __init__(self, inputs: int, condition: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            Modulated(a, b, condition, 2) for a, b in ((inputs, 24), (24, 48), (48, 96))
        )
        self.middle = nn.ModuleList(Modulated(96, 96, condition) for _ in range(4))
        self.up = nn.ModuleList(
            Modulated(a, b, condition) for a, b in ((96 + 48, 48), (48 + 24, 24), (24 + inputs, 12))
        )

    def forward(self, pictures: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        skips, maps = [pictures], pictures
        for layer in self.down:
            maps = layer(maps, condition)
            skips.append(maps)
        for first, second in zip(self.middle[::2], self.middle[1::2], strict=True):
            maps = maps + second(first(maps, condition), condition)
        found = []
        for layer, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            maps = functional.interpolate(maps, scale_factor=2.0, mode="nearest")
            maps = layer(torch.cat([maps, skip], dim=1), condition)
            found.append(maps)
        return found[0], found[-1]


class Corrector(nn.Module):
    """Corrects an analytic edit. Both of its heads start at zero: untrained, it changes nothing.

    The condition is z = change @ axes, the difference of the target's and the source's code in the embedding of the
    guide (`mien.methods.meca`); `axes` [K, d] are the guide's and are not trained.
    """

    def __init__(self, axes: Float[Tensor, "k d"]) -> None:
        super().__init__()
        self.axes: Tensor
        self.register_buffer("axes", axes.clone())
        self.trunk = Trunk(3, axes.shape[1])
        self.flow = _zero(nn.Conv2d(48, 2, 3, padding=1))
        self.light = _zero(nn.Conv2d(12, 1, 3, padding=1))
        self.mask = nn.Conv2d(12, 1, 3, padding=1)

    def forward(self, pictures: Float[Tensor, "n 2 64 64"], change: Float[Tensor, "n k"]) -> Change:
        """What to add to pictures (before, after the analytic edit) in 0..1, for a full change of strengths."""
        before, after = pictures[:, :1], pictures[:, 1:]
        seen = torch.cat([2 * before - 1, 2 * after - 1, 4 * (after - before)], dim=1)
        coarse, fine = self.trunk(seen, change @ self.axes)
        gain = torch.tanh(self.light(fine)) * torch.sigmoid(self.mask(fine))
        gain = gain - _broad(gain)
        gain = torch.where(gain > 0, LIGHTER * gain, gain)
        return Change(FARTHEST * torch.tanh(self.flow(coarse)), STRONGEST * gain)


class Skip(nn.Module):
    """Adds luma to a face, without flow. It starts as the identity."""

    def __init__(self, axes: Float[Tensor, "k d"]) -> None:
        super().__init__()
        self.axes: Tensor
        self.register_buffer("axes", axes.clone())
        self.trunk = Trunk(1, axes.shape[1])
        self.light = _zero(nn.Conv2d(12, 1, 3, padding=1))
        self.mask = nn.Conv2d(12, 1, 3, padding=1)

    def forward(self, picture: Float[Tensor, "n 1 64 64"], change: Float[Tensor, "n k"]) -> Tensor:
        """What to add to pictures in 0..1: [n, 1, 64, 64] in -1..1, for a full change of strengths."""
        _, fine = self.trunk(2 * picture - 1, change @ self.axes)
        return torch.tanh(self.light(fine)) * torch.sigmoid(self.mask(fine))


class StarGenerator(nn.Module):
    """Generates a face from a picture and a code [n, 2] in the plane of expressions."""

    def __init__(self, width: int = 24, blocks: int = 4) -> None:
        super().__init__()
        self.axes = nn.Parameter(torch.randn(len(ACTIVE), 2))
        self.enter = nn.Sequential(
            nn.Conv2d(3, width, 7, padding=3, bias=False), nn.InstanceNorm2d(width, affine=True), nn.ReLU()
        )
        self.down = nn.Sequential(*_plain(width, 2 * width, 4, 2), *_plain(2 * width, 4 * width, 4, 2))
        self.middle = nn.ModuleList(
            nn.Sequential(
                *_plain(4 * width, 4 * width, 3, 1),
                nn.Conv2d(4 * width, 4 * width, 3, padding=1, bias=False),
                nn.InstanceNorm2d(4 * width, affine=True),
            )
            for _ in range(blocks)
        )
        self.up = nn.Sequential(*_wider(4 * width, 2 * width), *_wider(2 * width, width))
        self.leave = nn.Conv2d(width, 1, 7, padding=3)

    def code(self, strengths: Float[Tensor, "n k"]) -> Float[Tensor, "n 2"]:
        """Map strengths of `ACTIVE` to a point in the plane; all zeros give the origin."""
        return strengths @ functional.normalize(self.axes, dim=1)

    def forward(self, picture: Float[Tensor, "n 1 64 64"], code: Float[Tensor, "n 2"]) -> Tensor:
        """The new picture [n, 1, 64, 64] in 0..1."""
        planes = code[:, :, None, None].expand(-1, -1, *picture.shape[2:])
        maps = self.down(self.enter(torch.cat([2 * picture - 1, planes], dim=1)))
        for block in self.middle:
            maps = maps + block(maps)
        return (torch.tanh(self.leave(self.up(maps))) + 1) / 2


class Critic(nn.Module):
    """Scores how real faces are and how well they fit their expression: shares [n, 8] enter by projection
    (Miyato and Koyama 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = _halvings(1, 24, 48, 96, 96)
        self.patch = spectral_norm(nn.Conv2d(96, 1, 3, padding=1))
        self.projection = spectral_norm(nn.Linear(len(EXPRESSIONS), 96, bias=False))

    def judge(self, pictures: Float[Tensor, "n 1 64 64"], shares: Float[Tensor, "n 8"]) -> Tensor:
        """[n, 1, 4, 4]: above 0 for real pictures that show these shares of expressions."""
        maps = self.trunk(2 * pictures - 1)
        fits: Tensor = (maps.mean(dim=(2, 3)) * self.projection(shares)).sum(dim=1)
        return cast("Tensor", self.patch(maps)) + fits[:, None, None, None]


class StarCritic(nn.Module):
    """A critic with the two heads of StarGAN and GANmut beside the patches: classes [n, 8] and code [n, 2]."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = _halvings(1, 32, 64, 128, 128)
        self.patch = spectral_norm(nn.Conv2d(128, 1, 3, padding=1))
        self.classes = nn.Linear(128 * (SIDE // 16) ** 2, len(EXPRESSIONS))
        self.code = nn.Linear(128 * (SIDE // 16) ** 2, 2)

    def forward(self, pictures: Float[Tensor, "n 1 64 64"]) -> tuple[Tensor, Tensor, Tensor]:
        """Patches [n, 1, 4, 4], class logits [n, 8] and code [n, 2]."""
        maps = self.trunk(2 * pictures - 1)
        return self.patch(maps), self.classes(maps.flatten(1)), self.code(maps.flatten(1))


def drawn(
    after: Float[Tensor, "n 1 64 64"], change: Change, size: Float[Tensor, " n"]
) -> Float[Tensor, "n 1 64 64"]:
    """The analytic edit `after` with a correction, times `size`: what `mien.editing.corrector.corrected` does."""
    rim = torch.from_numpy(fade()).to(after)
    flow = functional.interpolate(change.flow, (SIDE, SIDE), mode="bilinear", align_corners=False)
    flow = flow * rim * size[:, None, None, None]
    places = (torch.arange(SIDE, dtype=after.dtype, device=after.device) + 0.5) * 2 / SIDE - 1
    rows, columns = torch.meshgrid(places, places, indexing="ij")
    where = torch.stack([columns, rows], dim=2) + flow.permute(0, 2, 3, 1) * 2 / SIDE
    moved = functional.grid_sample(after, where, padding_mode="border", align_corners=False)
    lit = moved * torch.exp(change.gain * rim * size[:, None, None, None])
    return lit.clamp(0, 1)


def _halvings(*widths: int) -> nn.Sequential:
    """A critic's convolutions, each of which halves the side."""
    return nn.Sequential(
        *(
            layer
            for a, b in pairwise(widths)
            for layer in (spectral_norm(nn.Conv2d(a, b, 4, 2, 1)), nn.LeakyReLU(0.1))
        )
    )


def _broad(maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Maps without detail finer than about `FOLD_SIDE` pixels: a box filter, applied twice."""
    for _ in range(2):
        maps = functional.avg_pool2d(maps, FOLD_SIDE, 1, FOLD_SIDE // 2, count_include_pad=False)
    return maps


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _plain(inputs: int, outputs: int, kernel: int, stride: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inputs, outputs, kernel, stride, 1, bias=False),
        nn.InstanceNorm2d(outputs, affine=True),
        nn.ReLU(),
    )


def _wider(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return (
        nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False),
        nn.InstanceNorm2d(outputs, affine=True),
        nn.ReLU(),
    )

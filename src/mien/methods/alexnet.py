"""The convolutions of AlexNet as a backbone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from mien.errors import ConfigError, WeightsError
from mien.io import torch_files
from mien.methods.base import Backbone

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class AlexNet(Backbone):
    """The convolutions of AlexNet in torchvision's form (2.47 M parameters), their last map flattened.

    At 224 px that is 256 channels of 6 x 6, 9216 numbers; `width` is smaller for smaller crops. `weights` names
    torchvision's file; its classifier is left out.
    """

    def __init__(self, size: int = 224) -> None:
        super().__init__()
        side = (size - 7) // 4 + 1
        for _ in range(3):
            side = (side - 3) // 2 + 1
        if side < 1:
            raise ConfigError(f"AlexNet needs crops of 63 px or more, not {size}: set data.size")
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.side = min(6, side)
        self.stages = [64, 192, 256]
        self.width = 256 * self.side**2

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, "n width"], list[Tensor]]:
        maps: list[Tensor] = []
        for layer in self.features:
            images = layer(images)
            if isinstance(layer, nn.MaxPool2d):
                maps.append(images)
        return nn.functional.adaptive_avg_pool2d(images, self.side).flatten(1), maps

    def load_published(self, path: Path | str) -> None:
        """Fill from torchvision's AlexNet file.

        Raises:
            WeightsError: the file is missing, is not a plain tensor file, or is of another network.
        """
        if not Path(path).is_file():
            raise WeightsError(f"{path}: no such file: pass torchvision's alexnet file")
        state: dict[str, Tensor] = torch_files.read(path)
        try:
            self.load_state_dict(
                {key: value for key, value in state.items() if key.startswith("features.")}, strict=True
            )
        except (RuntimeError, AttributeError) as problem:
            raise WeightsError(f"{path}: not torchvision's AlexNet: {type(problem).__name__}") from None

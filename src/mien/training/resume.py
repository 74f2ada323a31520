"""A training by steps or by minutes, whichever end first, whose state is one file that `--resume` goes on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mien.io import atomic, torch_files


class Resumable:
    """Counts the steps and seconds of a training, and keeps them with its parts in the file `path`.

    A subclass makes its parts, names them in `_parts`, and then calls `_restore`.
    """

    def __init__(self, path: Path, steps: int, minutes: float | None) -> None:
        self.step, self.seconds = 0, 0.0
        self._path, self._steps, self._minutes = path, steps, minutes

    def _parts(self) -> dict[str, Any]:
        """What has a `state_dict`, by the name that it has in the file."""
        raise NotImplementedError

    def _restore(self) -> None:
        """Go on from the file, if it is there."""
        if self._path.exists():
            saved = torch_files.read(self._path)
            for name, part in self._parts().items():
                part.load_state_dict(saved[name])
            self.step, self.seconds = saved["step"], saved["seconds"]

    def save(self) -> None:
        """Write what `--resume` goes on from, whole or not at all."""
        state = {name: part.state_dict() for name, part in self._parts().items()}
        part = self._path.with_suffix(".part")
        torch.save({**state, "step": self.step, "seconds": self.seconds}, part)
        atomic.replace(part, self._path)

    @property
    def progress(self) -> float:
        """From 0 to 1, by steps or by time, whichever is further."""
        by_time = self.seconds / (60 * self._minutes) if self._minutes else 0.0
        return max(self.step / self._steps, by_time)

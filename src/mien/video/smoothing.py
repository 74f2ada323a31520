"""Smooth readings over time, with a lag that is the same at every frame rate.

The filter is a first-order low pass in *time*, not in frames: readings are joined by straight lines, and that curve is
averaged with weights that fall by a factor of e every `lag` seconds into the past. (Eckner 2012, "Algorithms for
unevenly spaced time series": the linearly interpolated exponential average; the closed form of one step is exact for
any spacing.) Properties:

- a steady rise or fall comes out delayed by exactly `lag` seconds, and by nothing else, whatever the frame rate is, if
  it varies, and if frames are left out; a sudden change has reached 63 % after `lag` and 95 % after three times that;
- the result is a weighted mean of readings, so probabilities stay probabilities;
- it needs no later frame, so a camera's picture is smoothed as a file's is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError
from mien.types import Reading, Smoothed

LAG: Final = 0.25
"""Seconds. Our choice: half of the shortest expressions that last (macro-expressions: 0.5 to 4 s, Ekman 2003)."""

GAP: Final = 1.0
"""Seconds without a reading after which the filter restarts, as interpolating across would invent values."""


@dataclass
class _Filter:
    time: float
    value: NDArray[np.float64]
    smooth: NDArray[np.float64]


class Smoother:
    """One filter for each person of a video; `lag` in seconds, 0 turns smoothing off.

    Raises:
        ConfigError: the lag is negative or not a number.
    """

    def __init__(self, lag: float = LAG) -> None:
        if not 0 <= lag < math.inf:
            raise ConfigError(f"a lag of {lag} s: pass 0 (no smoothing) or more seconds")
        self.lag = lag
        self._states: dict[int, _Filter] = {}

    def __call__(self, time: float, persons: Sequence[int], readings: Sequence[Reading]) -> list[Smoothed]:
        """The smoothed reading of each person in one frame at `time` seconds."""
        smoothed = []
        for person, reading in zip(persons, readings, strict=True):
            # Outputs that a network does not have are NaN here, and stay so.
            value = np.array(
                [reading.valence, reading.arousal, reading.intensity, *reading.probabilities.values()], float
            )
            before = self._states.get(person)
            if before is None or time - before.time > GAP:
                smooth = value
            else:
                smooth = step(before.smooth, before.value, value, time - before.time, self.lag)
            self._states[person] = _Filter(time, value, smooth)
            valence, arousal, intensity = (
                None if math.isnan(number) else number for number in smooth[:3].tolist()
            )
            shares = dict(zip(reading.probabilities, smooth[3:].tolist(), strict=True))
            smoothed.append(Smoothed(shares, valence, arousal, intensity))
        # Filters idle for longer would restart anyway, so they can be dropped.
        self._states = {person: state for person, state in self._states.items() if time - state.time <= GAP}
        return smoothed


def step(
    smooth: NDArray[np.float64],
    before: NDArray[np.float64],
    now: NDArray[np.float64],
    seconds: float,
    lag: float,
) -> NDArray[np.float64]:
    """One step of the filter: its output `seconds` after it was `smooth`, with the input going from `before` to `now`.

    If time does not advance, as in damaged files, the output does not change.
    """
    if seconds <= 0:
        return smooth
    if lag == 0:
        return now
    steps = seconds / lag
    kept = math.exp(-steps)
    mean = -math.expm1(-steps) / steps  # of the weights along the line
    return kept * smooth + (mean - kept) * before + (1 - mean) * now

"""Video: every face of every frame, whose it is, and its reading with and without smoothing."""

from mien.video.analyser import Analyser, analyse
from mien.video.clip import Clip, VideoError

__all__ = ["Analyser", "Clip", "VideoError", "analyse"]

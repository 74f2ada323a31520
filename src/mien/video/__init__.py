"""Video: every face of every frame, whose it is, and its reading with and without smoothing."""

from mien.io.video import VideoError, VideoReader
from mien.video.analyser import Analyser, analyse

__all__ = ["Analyser", "VideoError", "VideoReader", "analyse"]

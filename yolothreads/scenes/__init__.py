"""Pictures to detect in: generated scenes and camera clips whose truth is known, or a folder of your own.

Scenes are drawn with integer arithmetic and a frozen random stream (`numpy.random.RandomState`, which NEP 19 promises
never to change), so a seed gives the same pixels on every platform and with every version of numpy.
"""

from yolothreads.scenes.clips import clip
from yolothreads.scenes.drawing import CLASSES
from yolothreads.scenes.stills import SHAPES, SUFFIXES, Pictures, Scene, pictures, scene

__all__ = ["CLASSES", "SHAPES", "SUFFIXES", "Pictures", "Scene", "clip", "pictures", "scene"]

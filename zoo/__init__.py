"""Keras models with dropout as an argument: where it goes, at what rate and of which kind.

    import zoo
    model = zoo.build("cnn", input_shape=(28, 28, 1), classes=10, placement={"hidden": 0.5})
    zoo.compile(model).fit(images, labels)

Public names, listed in `__init__.pyi`, are imported on first use: `import zoo` does not import TensorFlow.
"""

import lazy_loader

from zoo.startup import quietly

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
_HEAVY = ("FollowSchedule", "Sampler", "audit", "compare_modes", "in_mode", "place", "sites", "thinned", "uncertainty")
__getattr__ = quietly(__getattr__, _HEAVY)

"""Trains models: one run, or a comparison of placements with a report.

    import trainers
    trainers.train(model="mlp", dataset="digits", epochs=5)

Public names are imported on first use (`__init__.pyi` lists them), so `import trainers` does not
import TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Searches for dropout rates with keras-tuner, and what their winners are worth.

    import tuning
    result = tuning.search(model="mlp", tune="hidden=0:0.8:0.1", retrain=10)
    result.table()

Public names are imported when they are first used (`__init__.pyi` lists them), so that
`import tuning` does not import TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

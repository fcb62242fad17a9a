"""Starting TensorFlow: in silence, and with a stated number of threads.

Importing TensorFlow takes seconds and writes lines about drivers and instruction
sets straight to the process's stderr. Whoever needs it calls `tensorflow()` here
first, once the arguments have been accepted.
"""

import contextlib
import ctypes
import os
import sys
import tempfile

# Only defaults: whoever sets these variables means it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt, from malloc.h


def tensorflow(threads=None):
    """Import TensorFlow and Keras without their start-up noise.

    `threads` is the number of threads that one operation, and the graph, may use
    (all cores if None). It can be set once in a process, before the first
    operation; afterwards it is left as it is. Returns the number in force.
    """
    with contextlib.nullcontext() if "tensorflow" in sys.modules else held_stderr():
        import keras  # noqa: F401
        import tensorflow as tf

        if threads:
            # TensorFlow refuses once its thread pools exist.
            with contextlib.suppress(RuntimeError):
                tf.config.threading.set_intra_op_parallelism_threads(threads)
                tf.config.threading.set_inter_op_parallelism_threads(threads)
    return tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count()


def keep_memory():
    """Let this process keep the memory that tensors have given back, for the next ones.

    glibc returns large blocks to the system at once and faults them in again, page by
    page, at every step. Only for processes that train: it is a setting of the whole process.
    """
    with contextlib.suppress(AttributeError, OSError):  # another C library has other ways
        tune = ctypes.CDLL(None).mallopt
        tune(_MMAP_THRESHOLD, 2**30)
        tune(_TRIM_THRESHOLD, 2**31 - 1)


@contextlib.contextmanager
def gradients_forgotten():
    """A context at whose end TensorFlow forgets the custom gradients that were traced in it.

    It keeps each, and with it the graph around, under a new name for as long as the process
    lives (Keras' optimisers have one): memory would grow from run to run. Only for graphs
    that nobody differentiates afterwards.
    """
    from tensorflow.python.framework import ops  # TensorFlow offers no other way

    registry = ops.gradient_registry
    known = set(registry.list())
    try:
        yield
    finally:
        for name in set(registry.list()) - known:
            if name.startswith("CustomGradient-"):
                del registry._registry[name]


@contextlib.contextmanager
def held_stderr():
    """Keep what native code writes to stderr; give it back only if the block fails."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)

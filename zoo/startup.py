"""Starting TensorFlow without its start-up messages, with a given number of threads.

Importing TensorFlow takes seconds, and writes lines about drivers and instruction sets directly to the
process's stderr. Commands call `tensorflow()` once their arguments have been checked.
"""

import contextlib
import ctypes
import gc
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any, BinaryIO

from zoo import interrupts
from zoo.errors import BadInput

# Defaults: variables that the user has set are kept.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt, from malloc.h


def tensorflow(threads: int | None = None) -> int:
    """Imports TensorFlow and Keras without their start-up messages.

    Args:
        threads: number of threads for one operation, and for the graph; one per core if None. It can be
            set once in a process, before the first operation. Later calls do not change it.

    Returns:
        The number of threads in use.
    """
    # An import that an interrupt cuts off leaves half of a module behind, or swallows the interrupt.
    with interrupts.whole(), contextlib.nullcontext() if "tensorflow" in sys.modules else _importing():
        import keras  # noqa: F401
        import tensorflow as tf

        if threads:
            # TensorFlow refuses once its thread pools exist.
            with contextlib.suppress(RuntimeError):
                tf.config.threading.set_intra_op_parallelism_threads(threads)
                tf.config.threading.set_inter_op_parallelism_threads(threads)
    return tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count() or 1


def devices() -> int:
    """Returns the number of GPUs; 1, for the CPU, if there is none."""
    tensorflow()
    import tensorflow as tf

    return max(1, len(tf.config.list_physical_devices("GPU")))


def use_devices(count: int) -> None:
    """Makes `count` devices usable: GPUs, which then take memory as they need it, or parts of the CPU if there is none.

    TensorFlow must not have computed anything before, not even while data were read.

    Raises:
        BadInput: there are fewer GPUs, or TensorFlow has begun to compute with fewer parts of the CPU.
    """
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        with contextlib.suppress(RuntimeError):  # it computes already
            tf.config.experimental.set_memory_growth(gpu, True)
    if gpus and count > len(gpus):
        raise BadInput(f"--devices must be at most {len(gpus)}, the GPUs that are here, got {count}; use fewer, or all")
    if gpus or count == 1:
        return
    (cpu,) = tf.config.list_physical_devices("CPU")
    if len(tf.config.get_logical_device_configuration(cpu) or ()) < count:
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
        except RuntimeError as error:
            raise BadInput(
                f"--devices must be 1 once TensorFlow has begun to compute on the CPU, got {count}; start a new process"
            ) from error


def keep_memory() -> None:
    """Makes this process keep freed memory for the next tensors.

    By default, glibc returns large blocks to the system and faults them in again, page by page, at
    every step. The setting applies to the whole process, so only processes that train use it.
    """
    with contextlib.suppress(AttributeError, OSError):  # a C library other than glibc
        tune = ctypes.CDLL(None).mallopt
        tune(_MMAP_THRESHOLD, 2**30)
        tune(_TRIM_THRESHOLD, 2**31 - 1)


@contextlib.contextmanager
def gradients_forgotten() -> Iterator[None]:
    """Removes, at the end of the block, the custom gradients that were traced in it.

    TensorFlow keeps each custom gradient (Keras' optimizers have one), with its graph, as long as the
    process lives, so memory grows from run to run. Use it only if nothing differentiates those graphs
    afterwards.
    """
    from tensorflow.python.framework import ops  # the registry has no public interface

    registry = ops.gradient_registry
    known = set(registry.list())
    try:
        yield
    finally:
        for name in set(registry.list()) - known:
            if name.startswith("CustomGradient-"):
                del registry._registry[name]


_own = threading.Event()  # set in a process that runs nothing but this project


def own_process() -> None:
    """Lets TensorFlow start in half of the time, in a process that carries out a command or the run of a sweep.

    Keras then does without matplotlib, pandas and scikit-learn, which it imports where they are installed, for its
    plots, for tables given to `fit` and for its scikit-learn wrappers. This project uses none of those.
    """
    _own.set()


@contextlib.contextmanager
def _importing():
    """A context for the import of TensorFlow: quiet, fast, and possible where no file can be written.

    Its test tools ask for the name of the temporary folder when they are imported, and write nothing. Keras
    imports matplotlib if that is there; matplotlib refuses without a folder that it can write.
    """
    with held_stderr(), _without_collections(), contextlib.ExitStack() as stack:
        if _own.is_set():
            stack.enter_context(_hidden("matplotlib", "pandas", "sklearn"))
        try:
            tempfile.gettempdir()
        except OSError:
            stack.enter_context(_hidden("matplotlib"))
            tempfile.tempdir = os.devnull
            stack.callback(setattr, tempfile, "tempdir", None)
        yield


@contextlib.contextmanager
def _hidden(*names):
    """A context in which packages cannot be imported, as if they were not installed, unless they have been already."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


@contextlib.contextmanager
def _without_collections():
    """A context in which Python does not look for cycles: an import makes a million objects, which stay."""
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if _own.is_set():
            gc.freeze()  # nor does it look among these later
        if collected:
            gc.enable()


@contextlib.contextmanager
def held_stderr() -> Iterator[None]:
    """Holds back what native code writes to stderr, and writes it only if the block fails.

    Blocks may be nested, and run in several threads: stderr is back when the last one has ended. If
    stderr is closed, or there is no place to hold it, nothing is held back.
    """
    begun = _held.begin()
    try:
        yield
    except Exception:
        _held.show(begun)
        raise
    finally:
        _held.end(begun)


class _Held:
    """What is written to descriptor 2 while at least one block holds it back."""

    def __init__(self) -> None:
        self._lock, self._blocks, self._stderr = threading.Lock(), 0, -1
        self._file: BinaryIO | None = None

    def begin(self) -> int | None:
        """Returns where the file of a new block begins; None if nothing is held back."""
        with self._lock:
            if not self._blocks and not self._opened():
                return None
            self._blocks += 1
            return os.fstat(self._file.fileno()).st_size

    def show(self, begun: int | None) -> None:
        """Writes what has been held back since a block began, unless another block still holds it back."""
        if begun is not None and self._blocks == 1:
            with self._lock, contextlib.suppress(OSError):
                size = os.fstat(self._file.fileno()).st_size
                os.write(self._stderr, os.pread(self._file.fileno(), size - begun, begun))

    def end(self, begun: int | None) -> None:
        """Ends a block."""
        if begun is not None:
            with self._lock:
                self._blocks -= 1
                if not self._blocks:
                    os.dup2(self._stderr, 2)
                    os.close(self._stderr)
                    self._file.close()

    def _opened(self):
        try:
            if sys.stderr is not None:
                sys.stderr.flush()
            self._stderr = os.dup(2)
        except OSError:  # stderr is closed
            return False
        try:
            self._file = _memory()
            os.dup2(self._file.fileno(), 2)
        except OSError:  # no temporary folder, or no descriptors left
            os.close(self._stderr)
            return False
        return True


_held = _Held()


def _memory():
    """Returns an unnamed file; in memory, where the system can do that, because there may be no temporary folder."""
    with contextlib.suppress(AttributeError, OSError):
        return os.fdopen(os.memfd_create("stderr"), "w+b")
    return tempfile.TemporaryFile()


def quietly(attribute: Callable[[str], Any], names: Collection[str]) -> Callable[[str], Any]:
    """Returns a package's `__getattr__` that starts TensorFlow without its output before it imports one of `names`.

    Args:
        attribute: the package's lazy `__getattr__`.
        names: public names whose modules import TensorFlow.
    """

    def started(name: str) -> Any:
        if name in names:
            tensorflow()
        return attribute(name)

    return started

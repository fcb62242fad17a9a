"""Fifty threads that use one artefact start one session for each runtime and mode, and get identical answers."""

import threading

import keras
import numpy as np
import pytest
from conftest import ROOT

import zoo
from zoo.artefacts import runtimes
from zoo.modes import montecarlo

THREADS = 50
SHIPPED = ROOT / "saved_models" / "mlp-digits-default"  # in all formats
MODES = ("inference", "mc")


def counted(monkeypatch, holder, name):
    """Counts the calls of `holder.name`, each of which is slowed down so that threads meet in it."""
    calls, original, pause = [], getattr(holder, name), threading.Event()

    def call(*args, **options):
        calls.append(name)
        pause.wait(0.05)
        return original(*args, **options)

    monkeypatch.setattr(holder, name, call)
    return calls


def started(monkeypatch):
    """What is opened, traced or split, as (runtime, what) -> calls so far."""
    import ai_edge_litert.interpreter
    import onnxruntime
    import tensorflow as tf

    classes = {name: runtimes.runtime(name) for name in runtimes.RUNTIMES}
    calls = {(name, "opened"): counted(monkeypatch, kind, "__init__") for name, kind in classes.items()}
    calls["onnx", "session"] = counted(monkeypatch, onnxruntime, "InferenceSession")
    calls["litert", "interpreter"] = counted(monkeypatch, ai_edge_litert.interpreter, "Interpreter")
    calls["savedmodel", "load"] = counted(monkeypatch, tf.saved_model, "load")
    calls["keras", "sampler"] = counted(monkeypatch, montecarlo.Sampler, "__init__")
    return calls


def at_once(work):
    """The results of `work(number)` in all threads, which begin at the same moment."""
    barrier, results, errors = threading.Barrier(THREADS), [None] * THREADS, []

    def run(number):
        barrier.wait()
        try:
            results[number] = work(number)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    return results


@pytest.mark.parametrize("runtime", runtimes.RUNTIMES)
def test_threads_share_what_one_of_them_opens_and_get_the_answers_of_a_thread_alone(monkeypatch, runtime):
    x = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 1)).astype("uint8")
    alone = zoo.load(SHIPPED, runtime=runtime, threads=1)
    with monkeypatch.context() as patch:
        calls = started(patch)
        expected = {mode: alone.predict(x, mode, 1 if mode == "inference" else 4, seed=3).logits for mode in MODES}
        needed = {key: len(made) for key, made in calls.items()}
    assert sum(needed.values()) >= 2
    together = zoo.load(SHIPPED, runtime=runtime, threads=1)
    calls = started(monkeypatch)

    def work(number):
        mode = MODES[number % 2]
        return together.predict(x, mode, 1 if mode == "inference" else 4, seed=3).logits

    for number, logits in enumerate(at_once(work)):
        np.testing.assert_array_equal(logits, expected[MODES[number % 2]])
    assert {key: len(made) for key, made in calls.items()} == needed
    assert needed[runtime, "opened"] == 1


def test_threads_that_open_a_mode_start_one_runtime(monkeypatch):
    artefact = zoo.load(SHIPPED)
    calls = started(monkeypatch)
    assert set(at_once(lambda number: artefact.open(MODES[number % 2]))) == {"onnx"}
    assert sum(len(made) for (_, what), made in calls.items() if what == "opened") == 1


def test_a_runtime_that_cannot_be_opened_says_so_to_every_thread_and_is_tried_again(monkeypatch):
    artefact = zoo.load(SHIPPED, runtime="keras")
    load, refusals = keras.models.load_model, []

    def refuse(*args, **options):
        refusals.append(1)
        raise ValueError("no memory at this moment")

    monkeypatch.setattr(keras.models, "load_model", refuse)

    def work(number):
        with pytest.raises(zoo.errors.BadInput, match="cannot open"):
            artefact.open()

    at_once(work)
    assert len(refusals) == THREADS
    monkeypatch.setattr(keras.models, "load_model", load)
    assert artefact.open() == "keras"

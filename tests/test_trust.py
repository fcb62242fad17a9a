"""Model files that could act are refused before TensorFlow opens them, and damaged ones with one message."""

import io
import json
import shutil
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo import keras_file
from zoo.artefacts import sums
from zoo.artefacts.runtimes import keras as runtime
from zoo.artefacts.runtimes.savedmodel import check_savedmodel
from zoo.errors import BadInput


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "model.keras"
    zoo.build("cnn", (8, 8, 1), 3, filters=(2,), hidden=(4,)).save(path)
    return path


def rewritten(good, path, change=lambda name, data: data, extra=()):
    """The `.keras` file `good` at `path`, each member through `change`, and `extra` members."""
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(path, "w") as target:
        for member in source.infolist():
            data = change(member.filename, source.read(member))
            if data is not None:
                target.writestr(member.filename, data)
        for name, data in extra:
            target.writestr(name, data)
    return path


def with_layer(layer):
    """A change that puts a serialised `layer` in the place of the first one."""

    def change(name, data):
        if name != "config.json":
            return data
        config = json.loads(data)
        config["config"]["layers"][1] |= layer
        return json.dumps(config)

    return change


def test_a_file_of_keras_layers_opens(good):
    assert runtime.read_keras(good).output_shape == (None, 3)


def test_text_models_open(tmp_path):
    layer = keras.layers.TextVectorization(vocabulary=["a", "b"], output_sequence_length=4)
    inputs = keras.Input((), dtype="string")
    keras.Model(inputs, keras.layers.Embedding(4, 2)(layer(inputs))).save(tmp_path / "text.keras")
    assert runtime.read_keras(tmp_path / "text.keras").output_shape == (None, 4, 2)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"class_name": "Lambda", "module": "keras.layers"}, "the object keras.layers.Lambda"),
        ({"class_name": "TFSMLayer", "module": "keras.layers"}, "the object keras.layers.TFSMLayer"),
        ({"class_name": "system", "module": "os"}, "the object os.system"),
        ({"class_name": "Mine", "module": None, "registered_name": "package>Mine"}, "could run code"),
        ({"config": {"x": {"class_name": "Popen", "module": "subprocess"}}}, "the object subprocess.Popen"),
        (
            {"class_name": "TextVectorization", "module": "keras.layers", "config": {"vocabulary": "/etc/passwd"}},
            "a vocabulary in another file",
        ),
    ],
)
def test_a_layer_that_could_run_code_or_read_files_is_refused(good, tmp_path, layer, message):
    bad = rewritten(good, tmp_path / "bad.keras", with_layer(layer))
    with pytest.raises(BadInput, match=message):
        runtime.read_keras(bad)


@pytest.mark.parametrize("name", ["../up.txt", "/etc/up.txt", "code.py", "assets/../../up.txt"])
def test_a_member_that_does_not_belong_there_is_refused(good, tmp_path, name):
    bad = rewritten(good, tmp_path / "bad.keras", extra=[(name, b"x")])
    with pytest.raises(BadInput, match=r"must hold only metadata.json"):
        runtime.check_keras(bad)


def test_a_member_that_unpacks_to_too_much_is_refused(good, tmp_path, monkeypatch):
    monkeypatch.setattr(keras_file, "LARGEST", 100)
    with pytest.raises(BadInput, match="bytes, more than 100"):
        runtime.check_keras(good)


@pytest.mark.parametrize("link", [h5py.ExternalLink("/etc/other.h5", "/x"), h5py.SoftLink("/layers")])
def test_weights_that_point_elsewhere_are_refused(good, tmp_path, link):
    def change(name, data):
        if name != "model.weights.h5":
            return data
        held = io.BytesIO(data)
        with h5py.File(held, "a") as file:
            file["layers/elsewhere"] = link
        return held.getvalue()

    with pytest.raises(BadInput, match="must be inside the file"):
        runtime.check_keras(rewritten(good, tmp_path / "bad.keras", change))


def test_weights_whose_numbers_stand_in_another_file_are_refused(good, tmp_path):
    other = tmp_path / "numbers"
    other.write_bytes(bytes(64))

    def change(name, data):
        if name != "model.weights.h5":
            return data
        held = io.BytesIO(data)
        with h5py.File(held, "a") as file:
            file.create_dataset("layers/outside", (16,), "float32", external=[(str(other), 0, 64)])
        return held.getvalue()

    with pytest.raises(BadInput, match="must be inside the file"):
        runtime.check_keras(rewritten(good, tmp_path / "bad.keras", change))


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_truncated_keras_file_is_refused_with_one_message(good, tmp_path, keep):
    data = good.read_bytes()
    (tmp_path / "cut.keras").write_bytes(data[: int(keep * len(data)) if keep < 1 else keep])
    with pytest.raises(BadInput, match=r"cannot read .*cut\.keras"):
        runtime.read_keras(tmp_path / "cut.keras")


@pytest.mark.parametrize("lacking", ["config.json", "model.weights.h5"])
def test_a_keras_file_without_a_member_is_refused(good, tmp_path, lacking):
    bad = rewritten(good, tmp_path / "bad.keras", lambda name, data: None if name == lacking else data)
    with pytest.raises(BadInput, match=r"is not a complete \.keras file"):
        runtime.read_keras(bad)


def test_damaged_weights_are_refused(good, tmp_path):
    bad = rewritten(good, tmp_path / "bad.keras", lambda name, data: b"x" * 99 if name.endswith("h5") else data)
    with pytest.raises(BadInput, match=r"cannot read the weights in"):
        runtime.read_keras(bad)


def test_a_configuration_that_keras_cannot_build_is_refused(good, tmp_path):
    bad = rewritten(good, tmp_path / "bad.keras", with_layer({"config": {"units": -3}}))
    with pytest.raises(BadInput, match=r"cannot open .* in Keras"):
        runtime.read_keras(bad)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"cannot read .*none\.keras"):
        runtime.read_keras(tmp_path / "none.keras")


class Touching(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32)])
    def serve(self, x):
        tf.io.write_file("touched", "x")
        return x


class Harmless(tf.Module):
    def __init__(self):
        self.weight = tf.Variable(np.ones((2, 2), "float32"))

    @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32)])
    def serve(self, x):
        return x @ self.weight


def test_a_savedmodel_that_writes_files_is_refused_unopened(tmp_path):
    tf.saved_model.save(Harmless(), str(tmp_path / "good"))
    check_savedmodel(tmp_path / "good")
    tf.saved_model.save(Touching(), str(tmp_path / "bad"))
    with pytest.raises(BadInput, match="got the operation WriteFile"):
        check_savedmodel(tmp_path / "bad")


@pytest.mark.parametrize("data", [b"", b"nonsense" * 20])
def test_a_damaged_savedmodel_is_refused(tmp_path, data):
    (tmp_path / "saved_model.pb").write_bytes(data)
    with pytest.raises(BadInput, match=r"is not a complete SavedModel|has no graph"):
        check_savedmodel(tmp_path)


@pytest.mark.parametrize("runtime", ["keras", "savedmodel"])
def test_a_forged_artefact_is_refused_too_though_its_sums_are_right(artefacts, tmp_path, runtime):
    folder = shutil.copytree(artefacts["mlp"], tmp_path / "mlp")
    if runtime == "keras":
        bad = with_layer({"class_name": "Lambda", "module": "keras.layers"})
        rewritten(artefacts["mlp"] / "model.keras", folder / "model.keras", bad)
    else:
        (folder / "savedmodel" / "saved_model.pb").write_bytes(b"nonsense" * 20)
    sums.write(folder)
    with pytest.raises(BadInput):
        zoo.load(folder, runtime=runtime).logits(np.zeros((1, 8, 8, 1), "uint8"))

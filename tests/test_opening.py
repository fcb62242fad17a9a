"""The forms of MODEL, and the commands `sites` and `place`."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from foreign import GRAPHS, batch_of, outputs
from keras import layers

import zoo
from zoo.__main__ import main
from zoo.errors import BadInput, RunFailed
from zoo.surgery import written
from zoo.surgery.opening import open_model


@pytest.fixture
def file(tmp_path):
    model = GRAPHS["post_norm_encoder"]()[0]
    model.save(tmp_path / "mine.keras")
    return tmp_path / "mine.keras"


def refusal(*arguments, **keywords):
    with pytest.raises(BadInput) as refused:
        open_model(*arguments, **keywords)
    return str(refused.value)


def test_every_form_of_a_model_opens(file, tmp_path, monkeypatch):
    assert open_model(str(file)).output_shape == (None, 5)
    assert open_model("cnn", "8x8x1", 3).output_shape == (None, 3)
    assert open_model("transformer", (12,), 3, vocabulary=20).output_shape == (None, 3)
    (tmp_path / "own_models.py").write_text(
        "import keras\n"
        "def small(input_shape, classes):\n"
        "    x = keras.Input(input_shape)\n"
        "    return keras.Model(x, keras.layers.Dense(classes)(keras.layers.Flatten()(x)))\n"
        "def other(input_shape, classes):\n"
        "    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert open_model("own_models:small", "4,4,1", 3).output_shape == (None, 3)
    assert "int" in refusal("own_models:other", (4, 4, 1), 3)
    assert "missing" in refusal("own_models:missing", (4, 4, 1), 3)
    assert "no_such" in refusal("no_such:model", (4, 4, 1), 3)


def test_networks_of_keras_come_with_their_preprocessing_and_take_small_images(capsys):
    model = open_model("applications/mobilenetv2", (8, 8, 3), 4)
    assert "32x32" in capsys.readouterr().err
    assert model.output_shape == (None, 4)
    assert zoo.sites(model)[0].after == "pixels"
    x = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    for name, module in (("VGG16", keras.applications.vgg16), ("DenseNet121", keras.applications.densenet)):
        network = open_model(f"applications/{name}", (32, 32, 3), 4)
        pixels = keras.Model(network.inputs, network.get_layer("pixels").output)
        np.testing.assert_allclose(outputs(pixels, x)[0], module.preprocess_input(x.copy()), rtol=1e-4, atol=1e-4)


def test_what_cannot_be_opened_is_refused_with_the_way_out(file, tmp_path):
    old = refusal("weights/mine.h5")
    assert "mine.keras" in old
    assert "load_model" in old
    assert "such file" in refusal(tmp_path / "none.keras")
    assert str(file) in refusal(tmp_path)
    assert "--input-shape" in refusal("mlp")
    assert "MobileNetV2" in refusal("applications/MobileNetV22", (32, 32, 3), 4)
    assert "applications/NAME" in refusal("resnet99", (8, 8, 3), 4)
    assert "28,28,1" in refusal("mlp", "big", 4)
    (tmp_path / "broken.keras").write_bytes(b"not a model")
    assert "broken.keras" in refusal(tmp_path / "broken.keras")
    x = keras.Input((4,))
    keras.Model(x, layers.Lambda(lambda t: t * 2)(x)).save(tmp_path / "code.keras")
    assert "Lambda" in refusal(tmp_path / "code.keras")
    assert "classes" in refusal(file, (4,), 3)


def test_custom_layers_open_once_their_package_is_imported(tmp_path):
    (tmp_path / "own_layers.py").write_text(
        "import keras\n"
        "@keras.saving.register_keras_serializable('own')\n"
        "class Twice(keras.layers.Layer):\n"
        "    def call(self, x):\n"
        "        return 2 * x\n"
    )
    make = (
        "import keras, own_layers\n"
        "x = keras.Input((4,))\n"
        "keras.Model(x, keras.layers.Dense(2)(own_layers.Twice()(x))).save('custom.keras')\n"
    )
    subprocess.run([sys.executable, "-c", make], cwd=tmp_path, check=True, capture_output=True)
    assert "--import" in refusal(tmp_path / "custom.keras")
    sys.path.insert(0, str(tmp_path))
    try:
        assert open_model(tmp_path / "custom.keras", imports=["own_layers"]).output_shape == (None, 2)
    finally:
        sys.path.remove(str(tmp_path))


def test_sites_prints_the_rows_as_a_table_and_as_json(file, capsys):
    main(["sites", str(file), "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert printed == zoo.sites(keras.models.load_model(file)).to_json()
    assert set(printed) == {"sites", "elsewhere", "unplaced"}
    main(["sites", str(file)])
    text = capsys.readouterr().out
    assert all(row["after"] in text for row in printed["sites"])
    main(["sites", "mlp", "--input-shape", "8,8,1", "--classes", "3"])
    assert "drop_hidden_1" in capsys.readouterr().out


def test_place_writes_a_file_whose_inference_is_that_of_the_model(file, tmp_path, capsys):
    out = tmp_path / "new.keras"
    main(["place", str(file), "--drop", "ffn_out=0.2", "--drop", "attention=0.3", "--out", str(out), "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["file"] == str(out)
    assert printed["difference"] == 0
    placed, model = keras.models.load_model(out), keras.models.load_model(file)
    x = batch_of(model)
    np.testing.assert_array_equal(outputs(placed, x)[0], outputs(model, x)[0])
    masks = {row["site"]: row["mask"]["rate"] for row in printed["sites"] if row["mask"]}
    assert masks == {"ffn_out": 0.2, "attention": 0.3}
    main(["place", str(out), "--placement", "none", "--out", str(tmp_path / "bare.keras")])
    assert "inference" in capsys.readouterr().out
    assert not any(row.mask for row in zoo.sites(keras.models.load_model(tmp_path / "bare.keras")))


def test_place_takes_placement_files_and_names_with_sites_replaced(file, tmp_path, capsys):
    (tmp_path / "best.json").write_text('{"sites": {"hidden": 0.4, "branch": {"rate": 0.1, "kind": "drop_path"}}}')
    out = tmp_path / "out.keras"
    main(["place", str(file), "--placement", str(tmp_path / "best.json"), "--drop", "hidden=0.1", "--out", str(out)])
    rates = {
        row.site: (row.mask["rate"], row.mask["kind"]) for row in zoo.sites(keras.models.load_model(out)) if row.mask
    }
    assert rates == {"hidden": (0.1, "dropout"), "branch": (0.1, "drop_path")}
    main(["place", str(file), "--placement", "everywhere", "--drop", "hidden=0.1", "--out", str(out)])
    rates = {row.site: row.mask["rate"] for row in zoo.sites(keras.models.load_model(out))}
    assert rates["hidden"] == 0.1
    assert rates["branch"] == 0.2
    capsys.readouterr()


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ([], ["--drop", "--placement"]),
        (["--drop", "conv=0.1"], ["conv", "attention"]),
        (["--drop", "hidden=1.5"], ["1.5"]),
        (["--placement", "paper2014"], ["paper2014", "everywhere"]),
        (["--placement", "hidden=0.1"], ["everywhere", "--drop hidden=0.1"]),
        (["--placement", "missing.json"], ["missing.json"]),
        (["--drop", "hidden=0.1", "--out", "new.h5"], ["new.h5", ".keras"]),
        (["--drop", "hidden=0.1", "--out", "no/such/new.keras"], ["no/such"]),
    ],
)
def test_place_refuses_what_it_cannot_do_and_writes_nothing(file, options, facts, tmp_path):
    out = [] if "--out" in options else ["--out", str(tmp_path / "new.keras")]
    with pytest.raises(BadInput) as refused:
        main(["place", str(file), *options, *out])
    assert all(fact in str(refused.value) for fact in facts)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.keras"]


def test_it_is_said_by_how_much_a_file_differs_where_keras_computes_attention_in_two_ways(tmp_path):
    keras.utils.set_random_seed(1)
    x = keras.Input((6, 8))
    y = layers.MultiHeadAttention(2, 5)(x, x)  # a width whose root rounds
    model = keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling1D()(x + y)))
    report = written.write(model, zoo.place(model, {"attention": 0.2}), tmp_path / "new.keras")
    assert 0 < report["difference"] < 1e-5
    assert "attention" in report["inference"]
    assert written.write(model, zoo.place(model, {"features": 0.2}), tmp_path / "new.keras")["difference"] == 0


def test_original_scaling_is_compared_without_its_factors(tmp_path):
    model = GRAPHS["conv_one_dimension"]()[0]
    placed = zoo.place(model, zoo.Placement({"hidden": 0.5}, "original"))
    assert written.write(model, placed, tmp_path / "new.keras")["difference"] > 0
    assert written.write(placed, zoo.place(placed, {}), tmp_path / "new.keras")["difference"] > 0
    placed.layers[-1].bias.assign(placed.layers[-1].bias + 1)
    with pytest.raises(RunFailed):
        written.write(model, placed, tmp_path / "new.keras")


def test_a_model_that_computes_something_else_is_not_written(tmp_path):
    model = GRAPHS["recurrent"]()[0]
    other = zoo.place(model, {})
    other.layers[-1].bias.assign(other.layers[-1].bias + 1)
    with pytest.raises(RunFailed):
        written.write(model, other, tmp_path / "new.keras")
    assert list(tmp_path.iterdir()) == []

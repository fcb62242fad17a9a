"""Another placement in any Functional model: inference unchanged, training changed, and back again."""

import gc
import subprocess
import sys
import weakref

import keras
import numpy as np
import pytest
from foreign import GRAPHS, batch_of, outputs
from keras import layers, ops
from test_sites import custom

import zoo
from zoo import Drop, Placement, keras_graph
from zoo.dropout import scheduled
from zoo.dropout.layers import is_mask
from zoo.errors import BadInput
from zoo.models.sites import realised, stock
from zoo.placement.drop import KINDS

every_graph = pytest.mark.parametrize("name", GRAPHS)


def equal(left, right):
    return all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


def masks(model):
    return [layer for layer in keras_graph.inside(model) if is_mask(layer)]


# === 11. Our own networks under another placement ===


@pytest.mark.parametrize("placement", ["everywhere", "kinds", "original", "rates"])
def test_11_a_placed_network_is_the_network_built_with_that_placement(small, placement):
    sites = small.sites()
    chosen = {
        "everywhere": dict.fromkeys(sites, 0.2),
        "kinds": {s: Drop(0.3, [kind for kind in KINDS if s in KINDS[kind]][-2], "linear") for s in sites},
        "original": Placement(dict.fromkeys(sites, 0.3), "original"),
        "rates": {s: tuple(0.1 * (i + 1) / len(b) for i in range(len(b))) for s, b in sites.items()},
    }[placement]
    x, built = small.batch(), small.build(chosen, seed=3)
    placed = zoo.place(small.build("everywhere", seed=3), chosen, seed=3)
    assert realised(placed) == realised(built)
    assert equal(outputs(placed, x, training=False), outputs(built, x, training=False))
    assert equal(outputs(placed, x, training=True), outputs(built, x, training=True))


def test_11_weights_go_back_and_forth_between_placements_of_one_network(small):
    x, model = small.batch(), small.build({}, seed=3)
    before = outputs(model, x, training=False)
    placed = zoo.place(model, "everywhere")
    again = zoo.place(placed, {})
    assert masks(again) == []
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    assert equal(outputs(placed, x, training=False), before)
    assert equal(outputs(again, x, training=False), before)


# === 13. Any Functional model ===


@every_graph
def test_13_inference_is_unchanged_and_training_is_not(name):
    model = GRAPHS[name]()[0]
    x, rows = batch_of(model), zoo.sites(model)
    before = outputs(
        zoo.place(model, None), x, training=False
    )  # Keras' recurrent layers advance seeds at inference too
    placed = zoo.place(model, "everywhere", seed=1)
    assert equal(outputs(placed, x, training=False), before)
    bare = zoo.place(placed, {})
    assert equal(outputs(bare, x, training=False), before)
    assert [row.mask for row in zoo.sites(bare)] == [None] * len(rows)
    drawn = outputs(zoo.place(zoo.place(model, "everywhere"), {}), x, training=True)
    assert equal(drawn, outputs(zoo.place(model, {}), x, training=True))
    assert [(row.site, row.after) for row in zoo.sites(placed)] == [(row.site, row.after) for row in rows]
    assert all(row.mask["rate"] == 0.2 for row in zoo.sites(placed))
    twice = zoo.place(placed, "everywhere", seed=1)
    assert [row.mask for row in zoo.sites(twice)] == [row.mask for row in zoo.sites(placed)]
    assert [layer.name for layer in twice.layers] == [layer.name for layer in placed.layers]
    once = outputs(placed, x, training=True)
    assert equal(outputs(twice, x, training=True), once)
    assert not equal(once, before)
    assert equal(outputs(model, x, training=False), before)


@every_graph
def test_13_nothing_is_shared_with_the_model_it_came_from(name):
    model = GRAPHS[name]()[0]
    x = batch_of(model)
    placed = zoo.place(model, "everywhere")
    before = outputs(model, x, training=False)
    for variable in placed.variables:
        if "float" in str(variable.dtype):
            variable.assign(variable + 1)
    assert equal(outputs(model, x, training=False), before)
    assert not {id(v) for v in model.variables} & {id(v) for v in placed.variables}


@every_graph
def test_13_nothing_is_dropped_at_or_after_an_output(name):
    placed = zoo.place(GRAPHS[name]()[0], "everywhere")
    graph = keras_graph.Graph(placed)
    made = {place: step for step in graph.steps for place in step.outputs}
    for place in graph.outputs:
        step = made[place]
        while not isinstance(step.operation, layers.Dense | layers.Conv2D):
            assert not is_mask(step.operation)
            step = made[next(iter(step.inputs.values()))]


def test_13_own_masks_stay_with_own_and_masks_elsewhere_stay_always():
    x = keras.Input((6,))
    y = layers.Dropout(0.1, name="first")(x)
    y = layers.Dropout(0.3, name="second")(layers.Dense(4, activation="relu")(y))
    model = keras.Model(x, layers.GaussianNoise(0.1, name="noise")(layers.Dense(2)(y)))
    for placement in (None, "own", "default"):
        assert [layer.name for layer in masks(zoo.place(model, placement))] == ["first", "second", "noise"]
    assert [layer.name for layer in masks(zoo.place(model, {"hidden": 0.2}))] == ["drop_hidden_1", "noise"]
    assert [layer.name for layer in masks(zoo.place(model, {}))] == ["noise"]


# === Kinds, scalings, schedules, data formats ===


def test_every_kind_goes_to_every_site_that_it_fits():
    model = GRAPHS["residual_kinds"]()[0]
    x = batch_of(model)
    before = outputs(model, x, training=False)
    for kind, sites in KINDS.items():
        placement = {row.site: Drop(0.3, kind) for row in zoo.sites(model) if row.site in sites}
        placed = zoo.place(model, placement)
        assert equal(outputs(placed, x, training=False), before)
        assert {row.mask["kind"] for row in zoo.sites(placed) if row.mask} == {kind}


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 8), (3, 6, 6, 6)])
def test_whole_maps_are_dropped_where_the_channels_are(shape):
    convolution = {2: layers.Conv1D, 3: layers.Conv2D, 4: layers.Conv3D}[len(shape)]
    x = keras.Input(shape)
    y = convolution(4, 1, data_format="channels_first", activation="relu", name="conv")(x)
    model = keras.Model(x, layers.Dense(2)(layers.Flatten()(y)))
    placed = zoo.place(model, {"conv": Drop(0.5, "spatial")})
    (layer,) = masks(placed)
    ones = np.ones((8, 4, *shape[1:]), "float32")
    drawn = ops.convert_to_numpy(layer(ones, training=True)).reshape(8, 4, -1)
    assert (drawn == drawn[:, :, :1]).all()
    assert len(np.unique(drawn)) == 2
    assert [row.mask["kind"] for row in zoo.sites(placed) if row.mask] == ["spatial"]


def test_original_scaling_scales_at_inference_and_comes_out_again():
    model = GRAPHS["conv_one_dimension"]()[0]
    x = batch_of(model)
    placed = zoo.place(model, Placement({"hidden": 0.5}, "original"))
    half = keras.models.clone_model(model)
    half.set_weights(model.get_weights())
    kernel, bias = half.layers[-1].get_weights()
    half.layers[-1].set_weights([kernel * 0.5, bias])
    np.testing.assert_allclose(outputs(placed, x)[0], outputs(half, x)[0], rtol=1e-5)
    assert equal(outputs(zoo.place(placed, {}), x), outputs(model, x))


def test_rates_follow_a_schedule_in_nested_models_and_in_attention_layers():
    for name, site in (("nested_three_deep", "conv"), ("decoder", "attention")):
        placed = zoo.place(GRAPHS[name]()[0], Placement({site: 0.5}, schedule="late:0.5"))
        (moving,) = scheduled.of(placed)
        x = batch_of(placed)
        moving.move(0.0)
        assert equal(outputs(placed, x, training=True), outputs(placed, x, training=False))
        moving.move(1.0)
        assert not equal(outputs(placed, x, training=True), outputs(placed, x, training=False))


# === Attention layers that hold a rate ===


def attending(rate, layer=layers.MultiHeadAttention, **keywords):
    x = keras.Input((6, 8))
    attend = layer(dropout=rate, **(keywords or {"num_heads": 2, "key_dim": 5}), name="attend")
    y = layers.Add()([x, attend(layers.LayerNormalization()(x), x)])
    return keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling1D()(y)))


@pytest.mark.parametrize("before", [0.0, 0.3])
@pytest.mark.parametrize(
    ("layer", "keywords"),
    [
        (layers.MultiHeadAttention, {}),
        (layers.GroupQueryAttention, {"head_dim": 5, "num_query_heads": 4, "num_key_value_heads": 2}),
    ],
)
def test_rates_inside_attention_layers_do_not_change_inference(before, layer, keywords):
    keras.utils.set_random_seed(1)
    model = attending(before, layer, **keywords)
    x = batch_of(model)
    expected = outputs(model, x, training=False)
    for rate in (0.2, 0.0):
        placed = zoo.place(model, {"attention": rate} if rate else {})
        assert placed.get_layer("attend").dropout == rate
        assert equal(outputs(placed, x, training=False), expected)
        assert equal(outputs(placed, x, training=True), expected) == (rate == 0)
        assert equal(outputs(zoo.place(placed, {"attention": 0.4}), x, training=False), expected)


_PLAIN = """
import sys, keras, numpy as np
model = keras.models.load_model("placed.keras")
x = np.load("x.npy")
y = np.asarray(model(x, training=False))
assert np.abs(y - np.load("y.npy")).max() < 1e-5
assert np.abs(np.asarray(model(x, training=True)) - y).max() > 1e-3
print(model.get_layer("attend").dropout, [l.name for l in model.layers if l.name.startswith("drop_")])
assert "zoo" not in sys.modules
"""


def test_a_placed_model_opens_in_plain_keras_with_its_masks(tmp_path):
    placed = zoo.place(attending(0.0), {"attention": 0.2, "branch": Drop(0.1, "drop_path")})
    x = batch_of(placed)
    placed.save(tmp_path / "placed.keras")
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", outputs(placed, x, training=False)[0])
    answer = subprocess.run(
        [sys.executable, "-I", "-c", _PLAIN], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "0.2 ['drop_branch_1']"


def test_the_mode_mc_draws_the_masks_of_a_placed_model_inside_attention_layers_and_nested_models_too():
    for name in ("decoder", "nested_three_deep"):
        model = GRAPHS[name]()[0]
        x, site = batch_of(model), "attention" if name == "decoder" else "conv"
        placed = zoo.place(model, {site: 0.5})
        sample = zoo.in_mode(placed, "mc")
        a, b, c = ([np.asarray(y) for y in keras.tree.flatten(sample(x, seed=seed))] for seed in (1, 1, 2))
        assert equal(a, b)
        assert not equal(a, c)


def test_squares_are_left_out_of_files_in_nested_models_too(tmp_path):
    placed = zoo.place(
        GRAPHS["nested_three_deep"]()[0], {"conv": Drop(0.2, "drop_block", block_size=3), "features": 0.1}
    )
    x = batch_of(placed)
    stock(placed).save(tmp_path / "stock.keras")
    plain = keras.models.load_model(tmp_path / "stock.keras")
    assert [type(layer).__name__ for layer in masks(plain)] == ["Dropout"]
    assert equal(outputs(plain, x, training=False), outputs(placed, x, training=False))


# === What a model holds besides weights ===


def test_frozen_layers_adapted_statistics_vocabularies_and_functions_come_along():
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(0).uniform(3, 9, (50, 4)))
    x = keras.Input((4,))
    y = layers.Lambda(lambda t: t * np.float32(1.5))(normalization(x))
    y = layers.Dense(6, activation="relu", name="frozen", trainable=False)(y)
    model = keras.Model(x, layers.Dense(2, name="logits")(y))
    placed, values = zoo.place(model, {"hidden": 0.3}), batch_of(model)
    assert equal(outputs(placed, values), outputs(model, values))
    assert [v.path for v in placed.trainable_variables] == [v.path for v in model.trainable_variables]

    words = layers.TextVectorization(max_tokens=10, output_sequence_length=3)
    words.adapt(["b a", "c a"])
    x = keras.Input((1,), dtype="string")
    y = layers.GlobalAveragePooling1D()(layers.Embedding(10, 4)(words(x)))
    model = keras.Model(x, layers.Dense(2)(y))
    text = ops.convert_to_tensor(np.array([["a b"], ["c z a"]]))
    assert equal(outputs(zoo.place(model, "everywhere"), text), outputs(model, text))


def test_a_frozen_backbone_keeps_its_baked_mode_and_its_batch_statistics():
    x = keras.Input((8, 8, 3))
    y = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, activation="relu")(x))
    backbone = keras.Model(x, layers.GlobalAveragePooling2D()(y), name="backbone")
    backbone.trainable = False
    x = keras.Input((8, 8, 3))
    model = keras.Model(x, layers.Dense(2)(backbone(x, training=False)))
    placed = zoo.place(model, {"features": 0.3, "conv": 0.2})
    values = batch_of(model)
    assert not placed.get_layer("backbone").trainable
    assert len(placed.trainable_variables) == 2
    before = [np.asarray(v) for v in model.variables]
    placed(values, training=True)
    assert equal(before, [np.asarray(v) for v in model.variables])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_masks_compute_in_the_type_of_what_they_mask(policy):
    half = policy.removeprefix("mixed_")
    x = keras.Input((8, 8, 3))
    y = ops.sin(layers.Conv2D(4, 3, activation="relu", dtype=policy)(x))  # no layer: it computes in what it is given
    y = layers.GlobalAveragePooling2D(dtype=policy)(y)
    model = keras.Model(x, layers.Dense(2, dtype="float32")(y))
    placed, values = zoo.place(model, {"conv": 0.2, "features": 0.3}), batch_of(model)
    assert {layer.compute_dtype for layer in masks(placed)} == {half}
    assert equal(outputs(placed, values), outputs(model, values))


def test_custom_layers_and_a_sequential_model_stay_what_they_are():
    model = custom()
    placed, x = zoo.place(model, {"branch": Drop(0.2, "drop_path")}), batch_of(model)
    assert equal(outputs(placed, x), outputs(model, x))
    assert [row.mask["layer"] for row in zoo.sites(placed) if row.mask] == ["drop_branch_1"]
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dropout(0.1),
            layers.Dense(3, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(2),
        ]
    )
    placed = zoo.place(model, {"hidden": 0.2})
    assert type(placed) is keras.Sequential
    assert [layer.name for layer in masks(placed)] == ["drop_hidden_1"]


def test_names_that_are_taken_are_not_used_again():
    x = keras.Input((4,))
    y = layers.Dense(3, activation="relu", name="drop_hidden_1")(x)
    placed = zoo.place(keras.Model(x, layers.Dense(2)(y)), {"hidden": 0.2})
    assert len({layer.name for layer in placed.layers}) == len(placed.layers) == 4


# === What is refused ===


@pytest.mark.parametrize(
    ("placement", "facts"),
    [
        ({"conv": 0.2}, ["conv", "attention"]),
        ({"attention": Drop(0.2, "gaussian")}, ["attention", "attend", "dropout", "gaussian"]),
        (Placement({"attention": 0.2}, "original"), ["attend", "inverted", "original"]),
        ({"branch": (0.1, 0.2)}, ["branch", "1", "2"]),
        ({"input": Drop(0.2, "spatial")}, None),
        ("paper2014", ["paper2014", "own", "everywhere"]),
        ({"output": 0.2}, ["output"]),
        (3, ["3"]),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_built(placement, facts):
    model = attending(0.0)
    if facts is None:
        assert masks(zoo.place(model, placement))
        return
    with pytest.raises(BadInput) as refused:
        zoo.place(model, placement)
    assert all(fact in str(refused.value) for fact in facts)


def test_squares_and_maps_are_refused_where_there_are_none():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="relu"), layers.Dense(2)])
    with pytest.raises(BadInput) as refused:
        zoo.place(model, {"input": Drop(0.2, "spatial")})
    assert "spatial" in str(refused.value)
    assert "rank 2" in str(refused.value)


def test_a_layer_that_cannot_be_made_again_is_named():
    class Mute(layers.Layer):
        def __init__(self, units, table):
            super().__init__()
            self.units, self.table = units, table

        def call(self, x):
            return x * 2

    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(2)(Mute(3, object())(x)))
    with pytest.raises(BadInput) as refused:
        zoo.place(model, {"input": 0.1})
    assert "Mute" in str(refused.value)
    assert "get_config" in str(refused.value)


# === Cost ===


def test_placed_models_are_freed():
    model = GRAPHS["residual_kinds"]()[0]
    references = [weakref.ref(zoo.place(model, "everywhere")) for _ in range(3)]
    gc.collect()
    assert [reference() for reference in references] == [None] * 3


def test_what_is_no_placement_is_refused_even_if_it_cannot_be_shown():
    class Silent:
        def __repr__(self):
            raise RuntimeError("no repr")

    with pytest.raises(BadInput, match=r"placement must be a Placement, .* got a Silent"):
        zoo.place(keras.Sequential([keras.Input((3,)), layers.Dense(2)]), Silent())

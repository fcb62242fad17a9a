"""The recogniser: the sites of our own networks and of graphs of every odd kind, found without names or masks."""

import json
import re

import keras
import numpy as np
import pytest
from conftest import SMALL
from foreign import GRAPHS
from keras import layers, ops

import zoo
from zoo import keras_graph
from zoo.errors import BadInput
from zoo.placement.drop import SITES

# Several configurations of each architecture.
CONFIGURATIONS = [
    *SMALL.items(),
    *(
        (
            f"{name}-{i}",
            type(small)(name, small.model, small.input_shape, {**small.settings, **changes}, small.vocabulary),
        )
        for name, i, changes in (
            ("mlp", 1, {"hidden": (5,)}),
            ("cnn", 1, {"filters": (4,), "convolutions": 1, "hidden": (8, 6)}),
            ("cnn", 2, {"filters": (3, 4, 5), "convolutions": 3}),
            ("resnet", 1, {"filters": (4, 4), "blocks": (2, 1)}),
            ("resnet", 2, {"filters": (4,), "blocks": (3,)}),
            ("transformer", 1, {"depth": 1, "heads": 1}),
            ("transformer", 2, {"depth": 3, "patch": 3}),
            ("tokens", 1, {"depth": 3, "heads": 4}),
        )
        for small in (SMALL[name],)
    ),
]
own = pytest.mark.parametrize("small", [pytest.param(small, id=name) for name, small in CONFIGURATIONS])
every_graph = pytest.mark.parametrize("name", GRAPHS)


def scrambled(model, seed=0):
    """The same network without masks, every layer under another name, and the names it had."""
    order, names = np.random.default_rng(seed), {}
    numbers = iter(order.permutation(1000))

    def renamed(layer):
        config = layer.get_config()
        config["name"] = f"l{next(numbers)}"
        names[config["name"]] = layer.name
        return type(layer).from_config(config)

    return keras_graph.rebuilt(model, replace=renamed), names


def by_site(rows):
    actual = {}
    for row in rows:  # Keras numbers operations over the whole process
        actual.setdefault(row.site, []).append(re.sub(r"^(multiply|get_item)_\d+$", r"\1", row.after))
    return actual


def makers(model):
    """What stands before each mask of a model that has one at every site, by site and occurrence."""
    graph = keras_graph.Graph(model)
    made = {place: step for step in graph.steps for place in step.outputs}
    before = {}
    for step in graph.steps:
        match = re.fullmatch(r"drop_([a-z_]+)_(\d+)", step.name)
        if match:
            source = made.get(next(iter(step.inputs.values())))
            while source is not None and source.name.startswith("drop_"):
                source = made.get(next(iter(source.inputs.values())))
            name = (
                source.operation.name if isinstance(source.operation, keras.Layer) else type(source.operation).__name__
            )
            before[match[1], int(match[2])] = name
    return before


@own
def test_12_our_own_networks_have_exactly_the_declared_sites_whatever_their_layers_are_called(small):
    model, names = scrambled(small.build({}))
    rows = zoo.sites(model)
    assert rows.blocks() == small.sites()
    assert all(row.mask is None and row.why for row in rows)
    expected = makers(small.build(dict.fromkeys(small.sites(), 0.2)))
    layers_by_name = {step.name: step.operation for step in keras_graph.Graph(model).steps}
    for row in rows:
        operation = layers_by_name[row.after]
        actual = names[row.after] if isinstance(operation, keras.Layer) else type(operation).__name__
        assert actual == expected[row.site, row.occurrence], (row.site, row.occurrence)


@own
def test_the_masks_of_our_own_networks_are_read_back_at_their_sites(small):
    rows = zoo.sites(small.build("everywhere"))
    assert rows.blocks() == small.sites()
    assert all(
        row.mask == {"kind": "dropout", "rate": 0.2, "layer": f"drop_{row.site}_{row.occurrence}"} for row in rows
    )
    assert rows.elsewhere == []


@every_graph
def test_odd_graphs_have_the_sites_written_down_by_hand(name):
    model, expected = GRAPHS[name]()
    rows = zoo.sites(model)
    assert by_site(rows) == expected
    assert list(by_site(rows)) == [site for site in SITES if site in expected]
    for site, blocks in rows.blocks().items():
        assert sorted(set(blocks)) == list(range(max(blocks) + 1)), site
        assert list(blocks) == sorted(blocks), site


def test_blocks_group_what_a_ramp_counts_as_one():
    blocks = zoo.sites(GRAPHS["decoder"]()[0]).blocks()
    assert blocks["branch"] == (0, 0, 0, 1, 1, 1)
    assert blocks["attention"] == (0, 0, 1, 1)
    assert zoo.sites(GRAPHS["parallel_blocks"]()[0]).blocks()["branch"] == (0, 0, 1, 1)
    assert zoo.sites(GRAPHS["residual_kinds"]()[0]).blocks()["branch"] == (0, 1, 2, 3)


def test_masks_are_recognised_where_users_put_them():
    rows = zoo.sites(GRAPHS["post_norm_encoder"]()[0])
    masks = {(row.site, row.occurrence): row.mask["layer"] for row in rows if row.mask}
    assert masks == {
        ("embedding", 1): "embed_drop",
        ("attention", 1): "attend1",
        ("attention", 2): "attend2",
        ("attention_out", 1): "attend_drop1",
        ("attention_out", 2): "attend_drop2",
        ("ffn_out", 1): "ffn_drop1",
        ("ffn_out", 2): "ffn_drop2",
        ("hidden", 1): "head_drop",
    }
    x = keras.Input((8, 8, 3))
    y = layers.Conv2D(4, 3, activation="relu")(x)
    y = layers.Dropout(0.25, name="behind_pool")(layers.MaxPooling2D()(y))
    y = layers.Conv2D(4, 3)(y)
    y = layers.ReLU()(layers.SpatialDropout2D(0.1, name="before_relu")(layers.BatchNormalization()(y)))
    y = layers.Dense(5)(layers.AlphaDropout(0.3, name="alpha")(layers.Flatten()(y)))
    rows = zoo.sites(keras.Model(x, y))
    assert [row.mask and row.mask["layer"] for row in rows] == [None, "behind_pool", "before_relu", "alpha"]
    assert [row.mask and row.mask["kind"] for row in rows] == [None, "dropout", "spatial", "AlphaDropout"]


def test_what_is_at_no_site_is_listed_with_the_reason():
    x = keras.Input((8, 8, 3))
    a = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(x)
    b = layers.Conv2D(4, 3, padding="same")(layers.Dropout(0.1, name="one_path")(a))
    y = layers.GlobalAveragePooling2D()(layers.Concatenate()([a, b]))
    y = layers.GaussianNoise(0.2, name="noise")(y)
    y = layers.Dropout(0.4, name="at_output")(layers.Dense(5)(y))
    rows = zoo.sites(keras.Model(x, layers.Softmax()(y)))
    assert {row["layer"]: (row["kind"], row["rate"]) for row in rows.elsewhere} == {
        "one_path": ("dropout", 0.1),
        "noise": ("GaussianNoise", 0.2),
        "at_output": ("dropout", 0.4),
    }
    why = {row["layer"]: row["why"] for row in rows.elsewhere}
    assert "conv" in why["one_path"]
    assert "output" in why["at_output"]
    assert "noise" in why["noise"]


@keras.saving.register_keras_serializable("odd")
class Path(layers.Layer):
    """Stochastic depth as many write it."""

    def __init__(self, drop_prob=0.3, **keywords):
        super().__init__(**keywords)
        self.drop_prob, self.generator = drop_prob, keras.random.SeedGenerator(1)

    def call(self, x, training=False):
        if not training:
            return x
        shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
        kept = ops.floor(keras.random.uniform(shape, seed=self.generator) + 1 - self.drop_prob)
        return x / (1 - self.drop_prob) * kept

    def get_config(self):
        return {**super().get_config(), "drop_prob": self.drop_prob}


@keras.saving.register_keras_serializable("odd")
class Sum(layers.Layer):
    """An addition with a factor, as in Inception-ResNet."""

    def call(self, inputs):
        return inputs[0] + 0.2 * inputs[1]


@keras.saving.register_keras_serializable("odd")
class Block(layers.Layer):
    """A residual block in code of its own."""

    def __init__(self, units, **keywords):
        super().__init__(**keywords)
        self.units, self.dense, self.drop = units, layers.Dense(units), layers.Dropout(0.4, name="drop")

    def call(self, x):
        return x + self.drop(self.dense(x))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def custom():
    x = keras.Input((8, 8, 4))
    y = Path(name="path")(layers.Conv2D(4, 3, padding="same", name="conv")(x))
    x2 = Sum(name="sum")([x, y])
    y = Block(4, name="block")(layers.GlobalAveragePooling2D(name="pool")(x2))
    return keras.Model(x, layers.Dense(5)(y))


def test_layers_of_somebody_else_are_recognised_by_what_they_do():
    rows = zoo.sites(custom())
    branch = next(row for row in rows if row.site == "branch")
    assert branch.after == "conv"
    assert branch.mask == {"kind": "drop_path", "rate": 0.3, "layer": "path"}
    assert [row["after"] for row in rows.unplaced] == ["block"]
    assert [(row["layer"], row["rate"]) for row in rows.elsewhere] == [("block/drop", 0.4)]


def test_a_batch_norm_behind_the_activation_comes_before_the_site():
    x = keras.Input((8, 8, 3), name="image")
    y = layers.BatchNormalization(name="conv_norm")(layers.Conv2D(4, 3, activation="relu")(x))
    y = layers.Flatten(name="flat")(layers.Dropout(0.25, name="behind_pool")(layers.MaxPooling2D()(y)))
    y = layers.BatchNormalization(name="dense_norm")(layers.Dense(6, activation="relu")(y))
    model = keras.Model(x, layers.Dense(2)(layers.Dropout(0.5, name="behind_norm")(y)))
    rows = zoo.sites(model)
    assert by_site(rows) == {"input": ["image"], "conv": ["conv_norm"], "features": ["flat"], "hidden": ["dense_norm"]}
    assert [row.mask and row.mask["layer"] for row in rows] == [None, "behind_pool", None, "behind_norm"]
    assert [(row.site, row.after) for row in zoo.sites(zoo.place(model, "everywhere"))] == [
        (row.site, row.after) for row in rows
    ]


def test_a_mask_in_a_nested_model_that_is_called_twice_is_one_mask():
    tower = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, activation="relu"), layers.Dropout(0.3, name="in"), layers.Dense(2)],
        name="t",
    )
    a, b = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([a, b], layers.Dense(2)(layers.Concatenate()([tower(a), tower(b)])))
    rows = zoo.sites(model)
    assert [row.mask["layer"] for row in rows if row.mask] == ["t/in"]
    assert rows.elsewhere == []
    assert not any(row.mask for row in zoo.sites(zoo.place(model, {})))


def test_wrapped_layers_and_layers_of_their_own_code():
    x = keras.Input((12, 4), name="signal")
    y = layers.TimeDistributed(layers.Dense(4), name="each")(x)
    h = layers.Conv1D(4, 3, padding="causal", activation="relu", name="first")(y)
    h = layers.SpatialDropout1D(0.1, name="inside")(h)
    h = layers.SpectralNormalization(layers.Conv1D(4, 3, padding="causal", activation="relu"), name="second")(h)
    y = layers.Add()([y, layers.SpatialDropout1D(0.2, name="behind")(h)])
    rows = zoo.sites(keras.Model(x, layers.Dense(2)(layers.GlobalAveragePooling1D(name="pool")(y))))
    assert by_site(rows) == {
        "input": ["signal"],
        "conv": ["first", "second"],
        "branch": ["second"],
        "features": ["pool"],
    }
    assert [row.mask and row.mask["layer"] for row in rows if row.site == "conv"] == ["inside", "behind"]


def test_attention_on_feature_maps_makes_no_embedding_of_them():
    x = keras.Input((8, 8, 3))
    y = layers.Conv2D(8, 3, activation="relu", name="c1")(x)
    y = layers.Conv2D(8, 3, activation="relu", name="c2")(y)
    q, k, v = (layers.Reshape((16, 4))(layers.Conv2D(4, 1)(y)) for _ in range(3))
    y2 = layers.Reshape((4, 4, 4))(ops.matmul(ops.softmax(ops.matmul(q, ops.transpose(k, (0, 2, 1)))), v))
    y = layers.Add()([y, layers.Conv2D(8, 1, name="out")(y2)])
    rows = zoo.sites(keras.Model(x, layers.Dense(2)(layers.GlobalAveragePooling2D()(y))))
    assert [row.site for row in rows] == ["input", "conv", "attention", "attention_out", "branch", "features"]


def test_nothing_is_a_site_at_an_output():
    x = keras.Input((8, 8, 3), name="image")
    y = layers.Conv2D(4, 3, activation="relu", name="conv")(x)
    y = layers.GlobalAveragePooling2D(name="pool")(y)
    h = layers.Dense(6, activation="relu", name="inner")(y)
    model = keras.Model(x, [h, layers.Dense(5, name="logits")(h)])
    assert by_site(zoo.sites(model)) == {"input": ["image"], "conv": ["conv"], "features": ["pool"]}
    backbone = keras.Model(x, y)
    assert by_site(zoo.sites(backbone)) == {"input": ["image"]}
    assert {row["after"] for row in zoo.sites(backbone).unplaced} == {"conv"}


def test_a_row_is_an_object_and_a_dictionary_and_json():
    rows = zoo.sites(SMALL["mlp"].build({"hidden": 0.5}))
    row = rows[1]
    assert row["site"] == row.site == "hidden"
    assert json.loads(json.dumps(rows.to_json()))["sites"][1] == row.to_json()
    assert set(row.to_json()) == {"site", "occurrence", "block", "after", "mask", "why"}
    assert str(rows.own()) == "hidden=0.5"


def test_a_model_whose_calls_are_its_own_code_is_refused():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    for model in (Subclassed(), "mlp", keras.Sequential([layers.Dense(2)])):
        with pytest.raises(BadInput, match="model"):
            zoo.sites(model)

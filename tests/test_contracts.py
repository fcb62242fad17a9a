"""What holds for every model and every site it has. Ten contracts, one test or a few each."""

import hashlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import SMALL

from zoo.dropout.layers import is_mask
from zoo.errors import BadInput
from zoo.models.sites import planned, realised
from zoo.modes.modes import in_mode
from zoo.placement.drop import KINDS, Drop
from zoo.placement.placement import Placement

# Every architecture, with every site that it has, with every kind that fits the site.
EVERYWHERE = [
    pytest.param(small, site, kind, id=f"{small.name}-{site}-{kind}")
    for small in SMALL.values()
    for site in small.sites()
    for kind, sites in KINDS.items()
    if site in sites
]
every_site = pytest.mark.parametrize(("small", "site", "kind"), EVERYWHERE)
every_site_with_masks_of_0_and_1 = pytest.mark.parametrize(
    ("small", "site", "kind"), [case for case in EVERYWHERE if case.values[2] != "gaussian"]
)


def logits(model, x, mode="inference"):
    return np.asarray(in_mode(model, mode)(x, seed=5))


def masks_of(model):
    return [layer for layer in model.layers if is_mask(layer)]


def with_masks_replaced(model, replace):
    """The same network and weights with `replace(mask layer)` in the place of each mask layer."""
    return keras.models.clone_model(model, clone_function=lambda layer: replace(layer) if is_mask(layer) else layer)


# === 1. Inference does not depend on the placement ===


@every_site
def test_1_inference_is_that_of_the_empty_placement(small, site, kind):
    x = small.batch()
    np.testing.assert_array_equal(logits(small.build({site: Drop(0.4, kind)}), x), logits(small.build({}), x))


@pytest.mark.parametrize(
    ("small", "kind"),
    [
        pytest.param(small, kind, id=f"{small.name}-{kind}")
        for small in SMALL.values()
        for kind in ("dropout", "spatial", "drop_path")
        if set(KINDS[kind]) & set(small.sites())
    ],
)
def test_1_original_scaling_is_the_network_scaled_by_hand(small, kind):
    sites = [site for site in small.sites() if site in KINDS[kind]]
    drops = {site: Drop(0.25, kind) for site in sites}
    by_hand = with_masks_replaced(
        small.build(drops), lambda layer: keras.layers.Rescaling(1 - layer.rate, name=f"by_hand_{layer.name}")
    )
    x = small.batch()
    np.testing.assert_array_equal(logits(small.build(Placement(drops, "original")), x), logits(by_hand, x))


# === 2. Masks act in mc and in training, exactly when a rate is above 0 ===


@every_site
def test_2_mc_differs_from_inference_exactly_when_a_rate_is_above_0(small, site, kind):
    x = small.batch()
    for rate in (0.0, 0.5):
        model = small.build({site: Drop(rate, kind)})
        for mode in ("mc",) if small.model == "resnet" else ("mc", "training"):
            assert np.array_equal(logits(model, x, mode), logits(model, x)) == (rate == 0), mode


# === 3. What a mask does to a value and to its gradient ===


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["dropout", "spatial", "drop_path"])
@pytest.mark.parametrize("scaling", ["inverted", "original"])
def test_3_values_are_dropped_or_scaled_and_so_are_gradients(kind, rate, scaling):
    site = "branch" if kind == "drop_path" else "conv"
    model = SMALL["resnet"].build(Placement({site: Drop(rate, kind)}, scaling))
    layer, kept = model.get_layer(f"drop_{site}_1"), 1 / (1 - rate)
    scale = model.get_layer(f"scale_{site}_1") if scaling == "original" else lambda x: x
    x = tf.random.stateless_uniform((400, 3, 3, 64), (1, 2), 0.5, 1.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = scale(layer(x, training=True))
    factor = kept if scaling == "inverted" else 1.0
    dropped = y.numpy() == 0
    np.testing.assert_allclose(y.numpy(), np.where(dropped, 0, x.numpy() * factor), rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(y, x).numpy(), np.where(dropped, 0, factor), rtol=1e-6)
    units = {"dropout": dropped, "spatial": dropped[:, 0, 0, :], "drop_path": dropped[:, 0, 0, 0]}[kind]
    standard_error = np.sqrt(rate * (1 - rate) / units.size)
    assert abs(units.mean() - rate) < 4 * standard_error  # false alarm: 1 in 16,000, and the seed is fixed
    assert layer.rate == pytest.approx(rate, rel=0.01)
    assert layer.rate > 0


def test_3_spatial_drops_whole_maps_and_drop_path_whole_examples():
    x = tf.ones((64, 5, 4, 8))
    model = SMALL["resnet"].build({"conv": Drop(0.5, "spatial"), "branch": Drop(0.5, "drop_path")})
    maps = model.get_layer("drop_conv_1")(x, training=True).numpy()
    examples = model.get_layer("drop_branch_1")(x, training=True).numpy()
    assert (maps == maps[:, :1, :1, :]).all()
    assert (examples == examples[:, :1, :1, :1]).all()
    assert len(np.unique(maps)) == len(np.unique(examples)) == 2


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_3_gaussian_factors_have_mean_1_and_the_variance_of_dropout(rate):
    model = SMALL["mlp"].build({"hidden": Drop(rate, "gaussian")})
    factors = model.get_layer("drop_hidden_1")(tf.ones((400, 500)), training=True).numpy().astype("float64")
    variance = rate / (1 - rate)
    assert abs(factors.mean() - 1) < 4 * np.sqrt(variance / factors.size)
    assert abs(factors.var() / variance - 1) < 4 * np.sqrt(2 / factors.size)


# === 4. A rate close to 1 leaves the network without those paths ===

# Dropping all values at a site must be the same as silencing these weights of the empty network.
SILENCED = {
    ("mlp", "hidden"): ["hidden_2/kernel", "logits/kernel"],
    ("cnn", "conv"): ["conv_1_2/kernel", "conv_2_1/kernel", "conv_2_2/kernel", "hidden_1/kernel"],
    ("cnn", "features"): ["hidden_1/kernel"],
    ("cnn", "hidden"): ["logits/kernel"],
    ("resnet", "conv"): ["stage_._._b_conv/kernel"],
    ("resnet", "branch"): ["stage_._._b_bn/(gamma|beta)"],
    ("resnet", "features"): ["logits/kernel"],
    ("transformer", "embedding"): ["embed/.*"],
    ("tokens", "embedding"): ["(token|position)/.*"],
}
for _name in ("transformer", "tokens"):
    SILENCED |= {
        (_name, "attention"): ["block_._attention_value/.*"],
        (_name, "attention_out"): ["block_._attention_out/.*"],
        (_name, "ffn_hidden"): ["block_._ffn_out/kernel"],
        (_name, "ffn_out"): ["block_._ffn_out/.*"],
        (_name, "branch"): ["block_._attention_out/.*", "block_._ffn_out/.*"],
        (_name, "features"): ["logits/kernel"],
    }


@every_site_with_masks_of_0_and_1
def test_4_a_rate_close_to_1_leaves_the_network_without_those_paths(small, site, kind):
    x = small.batch(n=8)
    dropped = logits(small.build({site: Drop(1 - 1e-7, kind)}), x, "mc")
    empty = small.build({})
    if site == "input":
        x = np.zeros_like(x)
    else:
        assert silence(empty, SILENCED[small.name, site]), "no weight was silenced"
    np.testing.assert_allclose(dropped, logits(empty, x), rtol=0, atol=1e-6)


def silence(model, patterns):
    """Set the weights called `layer/weight` that match to 0; returns how many they are."""
    import re

    weights = [(f"{layer.name}/{weight.name}", weight) for layer in model.layers for weight in layer.weights]
    matching = [w for name, w in weights if any(re.fullmatch(pattern, name) for pattern in patterns)]
    for weight in matching:
        weight.assign(tf.zeros_like(weight))
    return len(matching)


# === 5. What was planned is what is there ===


@every_site
def test_5_realised_sites_are_the_planned_ones_in_the_model_and_in_its_file(small, site, kind, tmp_path):
    placement = Placement({site: Drop(0.3, kind)}, "inverted" if kind in ("gaussian", "drop_block") else "original")
    model, expected = small.build(placement), planned(placement, small.sites())
    assert expected
    assert realised(model) == expected
    model.save(tmp_path / "model.keras")
    assert realised(keras.models.load_model(tmp_path / "model.keras")) == expected


def test_5_a_tuple_and_a_ramp_reach_their_occurrences(small):
    site = next(site for site, blocks in small.sites().items() if len(blocks) > 1)
    count = len(small.sites()[site])
    rates = tuple(np.linspace(0.1, 0.5, count).round(3))
    assert [r.rate for r in realised(small.build({site: rates}))] == list(rates)
    ramped = [r.rate for r in realised(small.build({site: Drop(0.4, ramp="linear")}))]
    assert ramped == sorted(ramped)
    assert (ramped[0], ramped[-1]) == (0.0, 0.4)


# === 6. Nothing is dropped at or after the output ===


def test_6_no_mask_stands_at_or_behind_the_output(small):
    model = small.build("everywhere")
    assert model.layers[-1].name == "logits"
    assert model.output is model.layers[-1].output
    assert not any(is_mask(layer) for layer in model.layers[-1:])


@pytest.mark.parametrize("site", ["output", "logits", "head"])
def test_6_output_sites_are_refused_with_the_site_to_use(small, site):
    with pytest.raises(BadInput, match=r"nothing is dropped at the output.*'hidden'.*'features'"):
        small.build({site: 0.5})


# === 7. mc leaves no trace ===


def test_7_a_hundred_mc_calls_change_nothing_that_inference_computes(small):
    model, x = small.build("everywhere"), small.batch(n=4)
    before, sample = logits(model, x), tf.function(in_mode(model, "mc"))
    for seed in range(100):
        sample(x, tf.constant(seed))
    np.testing.assert_array_equal(logits(model, x), before)


# === 8. One seed, one model ===

_DIGESTS = """
import hashlib, numpy as np
from conftest import SMALL
from test_contracts import digest
print("digests", *(digest(small) for small in SMALL.values()))
"""


def digest(small):
    """A fingerprint of a network built from seed 3: weights, an mc sample, the first masks of training."""
    model, x = small.build("everywhere"), small.batch()
    arrays = [*model.get_weights(), logits(model, x, "mc"), np.asarray(model(x, training=True))]
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def test_8_one_seed_gives_the_same_weights_and_masks_in_a_fresh_process(request):
    keras.utils.set_random_seed(77)  # the global seed has no say
    code = f"import sys; sys.path[:0] = [{str(request.config.rootpath / 'tests')!r}]\n{_DIGESTS}"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=request.config.rootpath, capture_output=True, text=True, check=True
    )
    fresh = next(line for line in answer.stdout.splitlines() if line.startswith("digests")).split()[1:]
    assert fresh == [digest(small) for small in SMALL.values()]


def test_8_another_seed_gives_another_model(small):
    x = small.batch()
    assert not np.array_equal(logits(small.build({}, seed=3), x), logits(small.build({}, seed=4), x))


def test_8_adding_a_layer_leaves_weights_and_masks_of_the_others():
    two, three = SMALL["mlp"].build("everywhere"), SMALL["mlp"].build("everywhere", hidden=(16, 12, 12))
    x = tf.ones((64, 16))
    for name in ("drop_hidden_1", "drop_hidden_2"):
        a, b = (model.get_layer(name)(x, training=True) for model in (two, three))
        np.testing.assert_array_equal(a, b)
    for a, b in zip(two.get_layer("hidden_2").get_weights(), three.get_layer("hidden_2").get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_8_each_site_draws_masks_of_its_own():
    model = SMALL["mlp"].build({"hidden": 0.5})
    x = tf.ones((64, 16))
    a, b = (model.get_layer(f"drop_hidden_{i}")(x, training=True).numpy() for i in (1, 2))
    assert not np.array_equal(a, b)


# === 9. Files open in plain Keras ===

_PLAIN = """
import sys, numpy as np, keras
assert "zoo" not in sys.modules
for name in sys.argv[1:]:
    model = keras.models.load_model(f"{name}.keras", safe_mode=True)
    x = np.load(f"{name}.npz", allow_pickle=False)
    assert np.array_equal(np.asarray(model(x["x"], training=False)), x["y"]), name
    model(x["x"], training=True)
    masks = [layer for layer in model.layers if layer.name.startswith("drop_")]
    ones = np.ones((64, 4, 4, 4), "float32")
    for layer in masks:
        assert not np.array_equal(layer(ones, training=True), ones), (name, layer.name)
    print("opened", name, len(masks))
assert "zoo" not in sys.modules
"""


def test_9_files_open_in_plain_keras_with_their_dropout_active(tmp_path):
    expected = []
    for small in SMALL.values():
        model, x = small.build("everywhere"), small.batch(n=4)
        model.save(tmp_path / f"{small.name}.keras")
        np.savez(tmp_path / f"{small.name}.npz", x=x, y=logits(model, x))
        expected.append(f"opened {small.name} {len(masks_of(model))}")
    answer = subprocess.run(
        [sys.executable, "-I", "-c", _PLAIN, *SMALL], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == expected


# Contract 10, a run killed at any moment and resumed, is in test_resume.py.

"""The experiments of the claims. Small networks on real data, so that two cores carry them out in an evening.

Unless an experiment says otherwise, the network is an MLP with two hidden layers of 256 units, the data
are 10,000 training images of Fashion-MNIST, and seeds 0 to 9 vary the initial weights, the order of
the examples and the masks.
"""

from trainers.claims.claim import Experiment

FASHION = {"dataset": "fashion_mnist", "train_size": 10_000}
MLP = {**FASHION, "model": "mlp", "settings": {"hidden": (256, 256)}}
LONG = {**MLP, "epochs": 40, "schedule": "constant"}
SHORT = {**MLP, "epochs": 20}
CNN = {**FASHION, "model": "cnn", "settings": {"filters": (8, 16), "convolutions": 1, "hidden": (64,)}, "epochs": 12}
RESNET = {**FASHION, "model": "resnet", "settings": {"filters": (4, 8, 16)}, "epochs": 6}
TRANSFORMER = {"model": "transformer", "settings": {"patch": 7, "width": 32, "depth": 2, "heads": 2, "ffn": 64}}
TEXT = {"dataset": "glue/sst2", "train_size": 10_000, "length": 32, "vocabulary": 5000}
NONE: dict = {}


def _hidden(rate):
    return {"placement": f"hidden={rate}"}


BANDS = Experiment(
    "bands",
    arms={"none": NONE, "dropout": {"placement": "input=0.2,hidden=0.5"}},
    common={**LONG, "epochs": 100},
    curves=True,
    seconds=900,
)
PAPER = Experiment(
    "paper-bands",
    arms={"none": NONE, "dropout": {"placement": "input=0.2,hidden=0.5"}},
    common={
        "dataset": "mnist",
        "model": "mlp",
        "settings": {"hidden": (1024, 1024)},
        "epochs": 200,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.95,
        "schedule": "linear",
        "max_norm": 2.0,
    },
    curves=True,
    seconds=18_000,
)
RATES = Experiment(
    "rates",
    arms={"none": NONE, **{f"drop-{rate}": _hidden(f"0.{rate}") for rate in (20, 35, 50, 60, 75, 90)}},
    common=LONG,
    measures={
        **dict.fromkeys(("mc", "thinned", "unscaled"), ("drop-50",)),
        **dict.fromkeys(("calibration", "foreign", "activity", "ablation"), ("none", "drop-50")),
    },
    seconds=1200,
)
LOWER = Experiment(
    "lower-error",
    arms={"none": NONE, **{f"drop-{rate}": _hidden(f"0.{rate}") for rate in (20, 35, 50)}},
    common={**MLP, "epochs": 30},
    tune={"learning_rate": (0.0003, 0.001, 0.003)},
    seconds=500,
)
NETS = tuple(f"{depth}x{width}" for depth in (2, 3, 4) for width in (128, 256))
ROBUST = Experiment(
    "robust",
    arms={
        f"{net}-{name}": {"settings": {"hidden": (int(net[2:]),) * int(net[0])}, **own}
        for net in NETS
        for name, own in (("none", NONE), ("dropout", _hidden("0.5")))
    },
    common=SHORT,
    seconds=900,
)
WIDTH = Experiment(
    "fixed-pn",
    arms={
        "128-none": {"settings": {"hidden": (128, 128)}},
        "128-drop-50": {"settings": {"hidden": (128, 128)}, **_hidden("0.5")},
        "128-drop-90": {"settings": {"hidden": (128, 128)}, **_hidden("0.9")},
        "640-drop-90": {"settings": {"hidden": (640, 640)}, **_hidden("0.9")},
    },
    common={**MLP, "epochs": 30, "schedule": "constant"},
    seconds=500,
)
SIZES = {100: 200, 500: 100, 1000: 60, 5000: 40, 10_000: 30, 50_000: 15}
SIZE = Experiment(
    "data-size",
    arms={
        f"{size}-{name}": {"train_size": size, "epochs": epochs, **own}
        for size, epochs in SIZES.items()
        for name, own in (("none", NONE), ("dropout", _hidden("0.5")))
    },
    common=MLP,
    seconds=1500,
)
MAX_NORM = Experiment(
    "max-norm",
    arms={
        "none": NONE,
        "max-norm": {"max_norm": 3.0},
        "dropout": _hidden("0.5"),
        "both": {"max_norm": 3.0, **_hidden("0.5")},
    },
    common={**MLP, "epochs": 30, "optimizer": "sgd", "momentum": 0.95},
    tune={"learning_rate": (0.01, 0.03, 0.1)},
    seconds=500,
)
BATCHNORM = Experiment(
    "batchnorm",
    arms={
        "none": NONE,
        "inside-10": {"placement": "conv=0.1,branch=0.1"},
        "inside-50": {"placement": "conv=0.5,branch=0.5"},
        "everywhere-50": {"placement": "conv=0.5,branch=0.5,features=0.5"},
        "features-50": {"placement": "features=0.5"},
    },
    common=RESNET,
    measures={"batchnorm": ()},
    seconds=1800,
)
SPATIAL = Experiment(
    "spatial",
    arms={
        "none": NONE,
        "element-10": {"placement": "conv=0.1"},
        "element-30": {"placement": "conv=0.3"},
        "spatial-10": {"placement": "conv=0.1:spatial"},
        "spatial-30": {"placement": "conv=0.3:spatial"},
    },
    common=CNN,
    seconds=700,
)
EARLY_CONV = Experiment(
    "early-conv",
    arms={
        "none": NONE,
        "element-20": {"placement": "conv=0.2/0.0"},
        "element-40": {"placement": "conv=0.4/0.0"},
        "spatial-20": {"placement": "conv=0.2/0.0:spatial"},
        "spatial-40": {"placement": "conv=0.4/0.0:spatial"},
    },
    common=CNN,
    seconds=700,
)
_EVERY_BLOCK = ("embedding", "attention", "attention_out", "ffn_hidden", "ffn_out")
_ALL = ",".join(f"{site}=0.1" for site in _EVERY_BLOCK)
EARLY = Experiment(
    "early-dropout",
    arms={
        "none": NONE,
        "standard": {"placement": _ALL},
        "early": {"placement": _ALL, "drop_schedule": "early:0.5"},
        "late": {"placement": _ALL, "drop_schedule": "late:0.5"},
    },
    common={**FASHION, **TRANSFORMER, "epochs": 6},
    seconds=500,
)
CAPACITY = Experiment(
    "small-and-short",
    arms={
        f"{size}-{length}-{name}": {
            "settings": {"patch": 7, "depth": 2, "heads": 2, "width": width, "ffn": 2 * width},
            "epochs": epochs,
            **own,
        }
        for size, width in (("small", 16), ("large", 48))
        for length, epochs in (("short", 3), ("long", 15))
        for name, own in (("none", NONE), ("dropout", {"placement": _ALL}))
    },
    common={**FASHION, "model": "transformer"},
    seconds=1200,
)
_PARTS = {
    "none": NONE,
    "attention": {"placement": "attention=0.1,attention_out=0.1"},
    "feed-forward": {"placement": "ffn_hidden=0.1,ffn_out=0.1"},
    "all": {"placement": _ALL},
}
IMAGE_TRANSFORMER = Experiment(
    "transformer-images", arms=_PARTS, common={**FASHION, **TRANSFORMER, "epochs": 15}, seconds=900
)
TEXT_TRANSFORMER = Experiment(
    "transformer-text",
    arms={**_PARTS, "all-30": {"placement": _ALL.replace("0.1", "0.3")}},
    common={**TEXT, **TRANSFORMER, "settings": {"width": 32, "depth": 1, "heads": 2, "ffn": 64}, "epochs": 4},
    seconds=900,
)
VARIANCE = Experiment(
    "seed-variance", arms={"none": NONE, "dropout": _hidden("0.5")}, common=SHORT, seeds=20, seconds=300
)
OUTPUT = Experiment(
    "before-output",
    arms={"none": NONE, "first": _hidden("0.5/0.0"), "last": _hidden("0.0/0.5"), "both": _hidden("0.5/0.5")},
    common=SHORT,
    seconds=300,
)
STACKED = Experiment(
    "stacked",
    arms={
        "dropout": NONE,
        "weight-decay": {"weight_decay": 0.03},
        "max-norm": {"max_norm": 3.0},
        "label-smoothing": {"label_smoothing": 0.1},
        "augmentation": {"augment": True},
        "early-stopping": {"early_stopping": 5},
    },
    common={**MLP, "epochs": 30, "schedule": "constant", **_hidden("0.5")},
    seconds=600,
)
DEPTH = Experiment(
    "early-layers",
    arms={
        "none": NONE,
        "falling": _hidden("0.5/0.3/0.1"),
        "level": _hidden("0.3/0.3/0.3"),
        "rising": _hidden("0.1/0.3/0.5"),
    },
    common={**SHORT, "settings": {"hidden": (256, 256, 256)}},
    seconds=400,
)
ONE_EPOCH = Experiment(
    "one-epoch",
    arms={"none": NONE, "drop-10": _hidden("0.1"), "drop-30": _hidden("0.3")},
    common={"dataset": "fashion_mnist", "model": "mlp", "settings": {"hidden": (256, 256)}, "epochs": 1},
    seconds=200,
)
STEPS = (500, 1000, 2000, 5000, 10_000)
MONOTONE = Experiment(
    "monotone",
    arms={
        f"{size}-{name}": {"train_size": size, **own}
        for size in STEPS
        for name, own in (("none", NONE), ("drop-30", _hidden("0.3")), ("drop-60", _hidden("0.6")))
    },
    common={**MLP, "epochs": 30},
    seconds=900,
)
BRANCH = Experiment(
    "residual-branch",
    arms={
        name: {"model": f"trainers.claims.networks:{function}"}
        for name, function in (
            ("none", "plain"),
            ("inside", "inside"),
            ("branch", "branch"),
            ("before-pool", "before_pool"),
            ("after-pool", "after_pool"),
        )
    },
    common={**FASHION, "epochs": 6},
    seconds=1800,
)

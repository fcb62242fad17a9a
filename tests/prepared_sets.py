"""Small sets of TFDS of several kinds, images and texts."""

import numpy as np

from zoo.data.source import CHUNK


def write_set(folder, name, splits, features, **options):
    """A prepared TFDS set; `splits` maps a name to a list of examples."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={split: list(enumerate(examples)) for split, examples in splits.items()},
        data_dir=folder,
        **options,
    )


def write_shards(folder, name, examples, features, per_shard):
    """A prepared TFDS set with a `train` split in several files."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import dataset_info

    target = folder / name / "1.0.0"
    target.mkdir(parents=True)
    identity = dataset_info.DatasetIdentity(
        name=name, version=tfds.core.Version("1.0.0"), data_dir=str(target), module_name="tests"
    )
    info = tfds.core.DatasetInfo(builder=identity, features=tfds.features.FeaturesDict(features))
    writer = tfds.core.SequentialWriter(info, per_shard)
    writer.initialize_splits(["train"])
    writer.add_examples({"train": examples})
    writer.close_all()


def images(count, seed, shape=(6, 5, 3), classes=3):
    rng = np.random.default_rng(seed)
    return [
        {"image": rng.integers(0, 256, shape, np.uint8), "label": int(label)}
        for label in rng.permutation(np.arange(count) % classes)
    ]


def sentences(count, seed, hidden=False):
    rng = np.random.default_rng(seed)
    words = np.array(["a", "good", "bad", "film", "plot", "actor", "very", "not", "dull"])
    return [
        {"sentence": " ".join(rng.choice(words, rng.integers(1, 9))) + "!", "label": -1 if hidden else i % 2}
        for i in range(count)
    ]


def write_all(folder):
    """Write them to a folder."""
    import tensorflow_datasets as tfds

    label = tfds.features.ClassLabel(num_classes=3)
    image = {"image": tfds.features.Image(shape=(6, 5, 3)), "label": label}
    text = {"sentence": tfds.features.Text(), "label": tfds.features.ClassLabel(names=["no", "yes"])}
    write_shards(folder, "pictures", images(2 * CHUNK + 100, 0), image, per_shard=900)
    write_set(folder, "cifar10", {"train": images(60, 1), "test": images(30, 2)}, image)
    splits = {
        "train": sentences(300, 0),
        "validation": sentences(40, 1),
        "test": sentences(40, 2, hidden=True),
    }
    write_set(folder, "remarks", splits, text, config="short")
    free = {"image": tfds.features.Image(shape=(None, None, 3)), "label": label}
    mixed = images(30, 3) + images(30, 4, shape=(9, 4, 3))
    write_set(folder, "mixed_sizes", {"train": mixed, "test": images(9, 5)}, free)
    pair = {
        "left": tfds.features.Text(),
        "right": tfds.features.Text(),
        "label": tfds.features.ClassLabel(num_classes=2),
    }
    write_set(folder, "pairs", {"train": [{"left": "a", "right": "b", "label": 0}]}, pair)

"""Looks at model files before TensorFlow opens them: a file is data, and must not be able to act.

Keras' safe mode refuses pickled code. It leaves open layers that read other files or
name Python modules, weights that point outside their file, and, in a SavedModel, graph
operations that read and write files. Such files are refused here unopened.
"""

import io
import json
import zipfile
from pathlib import Path, PurePosixPath

from zoo.errors import BadInput

MOST_BYTES = 4 * 2**30  # of a file inside a .keras file, unpacked
_ACTING = ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "NNXLayer")
_MEMBERS = ("metadata.json", "config.json", "model.weights.h5")
_TOUCHING = ("File", "PyFunc", "Restore", "Save", "Dataset", "Iterator", "Rpc", "Print", "Summary", "Socket", "Fifo")
# What a SavedModel needs for its own weights; all other operations of these names are refused.
_RESTORING = {"SaveV2", "RestoreV2", "ShardedFilename", "MergeV2Checkpoints"}


def check_keras(path):
    """Refuse a `.keras` file that holds more than layers of Keras and their weights."""
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                _check_member(path, member)
            config = json.loads(archive.read("config.json"))
            weights = archive.read("model.weights.h5")
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{path} is no whole .keras file ({error}); export or train it again") from error
    for entry in _entries(config):
        _check_entry(path, entry)
    _check_weights(path, weights)


def check_savedmodel(folder):
    """Refuse a SavedModel whose graph reads or writes files, or calls Python."""
    from tensorflow.core.protobuf import saved_model_pb2

    folder, found = Path(folder), saved_model_pb2.SavedModel()
    try:
        found.ParseFromString((folder / "saved_model.pb").read_bytes())
    except Exception as error:  # protobuf's own errors differ from version to version
        raise BadInput(f"{folder} is no whole SavedModel ({type(error).__name__}); export it again") from error
    if not found.meta_graphs:
        raise BadInput(f"{folder} holds no graph; export it again")
    for graph in found.meta_graphs:
        nodes = [*graph.graph_def.node, *(node for f in graph.graph_def.library.function for node in f.node_def)]
        for operation in sorted({node.op for node in nodes} - _RESTORING):
            if any(word in operation for word in _TOUCHING):
                raise BadInput(
                    f"{folder} holds the operation {operation}, which no export of ours has: it could reach files or "
                    "code outside the model; load only what you trust, or export it again"
                )


def _check_member(path, member):
    name = PurePosixPath(member.filename)
    if (member.filename not in _MEMBERS and name.parts[0] != "assets") or ".." in name.parts or name.is_absolute():
        raise BadInput(f"{path} holds {member.filename!r}; a .keras file holds {', '.join(_MEMBERS)}: export it again")
    if member.file_size > MOST_BYTES:
        raise BadInput(f"{path} holds {member.filename} of {member.file_size:,} bytes unpacked, above {MOST_BYTES:,}")


def _entries(value):
    """Every serialised object in a configuration."""
    if isinstance(value, dict):
        if "class_name" in value:
            yield value
        for part in value.values():
            yield from _entries(part)
    elif isinstance(value, list):
        for part in value:
            yield from _entries(part)


def _check_entry(path, entry):
    module, name = entry.get("module"), entry["class_name"]
    ours = module is None or module == "builtins" or str(module).partition(".")[0] == "keras"
    config = entry.get("config")
    reads = isinstance(config, dict) and isinstance(config.get("vocabulary"), str)
    if not ours or name in _ACTING or ">" in str(entry.get("registered_name")) or reads:
        what = "a vocabulary in another file" if reads else f"the object {module}.{name}"
        raise BadInput(
            f"{path} holds {what}, which could run code or read files; only layers of Keras itself are loaded: "
            "export the model again"
        )


def _check_weights(path, weights):
    import h5py

    foreign = []

    def visit(name, item):
        if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
            foreign.append(name)

    def links(group, prefix=""):
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink | h5py.SoftLink):
                foreign.append(prefix + name)
            elif isinstance(group[name], h5py.Group):
                links(group[name], f"{prefix}{name}/")

    try:
        with h5py.File(io.BytesIO(weights), "r") as file:
            links(file)
            if not foreign:
                file.visititems(visit)
    except (OSError, KeyError, RuntimeError) as error:
        raise BadInput(f"the weights in {path} are damaged ({error}); export or train it again") from error
    if foreign:
        raise BadInput(f"the weights in {path} point outside the file ({foreign[0]}); nothing was loaded")

"""`python -m zoo modes`: what it writes of what, and what it refuses."""

import json
import shutil
import subprocess
import sys

import keras
import pytest
from keras import layers

from zoo.__main__ import main
from zoo.artefacts import locate
from zoo.artefacts.export import export
from zoo.errors import BadInput
from zoo.modes import figure
from zoo.modes.compare import compare_modes


def test_the_command_on_a_run_an_artefact_and_a_model_file(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(runs["resnet"], tmp_path / "run")
    options = ["--samples", "3", "--examples", "100"]
    main(["modes", "run", *options])
    shown = capsys.readouterr()
    assert "100 examples" in shown.err
    assert all(word in shown.out for word in ("inference", "BatchNorm", "ECE", "run/modes.png"))
    actual = json.loads((run / "modes.json").read_text())
    assert (actual["examples"], actual["samples"], actual["dataset"]) == (100, 3, "digits")
    assert (run / "modes.png").read_bytes().startswith(b"\x89PNG")
    shelf = export("run", name="resnet", formats=["keras"], out="shelf")
    before = sorted(shelf.iterdir())
    main(["modes", str(shelf), *options, "--json"])
    same = json.loads(capsys.readouterr().out)
    assert (same["modes"], same["layers"]) == (actual["modes"], actual["layers"])
    assert sorted(shelf.iterdir()) == before
    assert (tmp_path / "modes" / "resnet" / "modes.png").exists()
    main(["modes", "run/model.keras", "--dataset", "digits", *options, "--out", "elsewhere"])
    assert "does not state how its inputs are scaled" in capsys.readouterr().out
    assert json.loads((tmp_path / "elsewhere" / "modes.json").read_text())["modes"] == actual["modes"]


def test_what_the_command_refuses(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(runs["mlp"], tmp_path / "run")
    (tmp_path / "broken.keras").write_bytes(b"PK nothing")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(7)]).save("seven.keras")
    keras.Sequential([keras.Input((9, 9, 1)), layers.Flatten(), layers.Dense(10)]).save("nine.keras")
    for words, message in (
        (["nowhere"], "does not exist"),
        (["empty"], "has no config.json"),
        (["file"], "another kind of file"),
        (["seven.keras"], "--dataset must be given"),
        (["seven.keras", "--dataset", "digits"], "the 10 classes of digits, got 7"),
        (["nine.keras", "--dataset", "digits"], r"examples of digits, \(8, 8, 1\), got \(9, 9, 1\)"),
        (["broken.keras", "--dataset", "digits"], "broken.keras"),
        (["run", "--dataset", "mnist", "--data-dir", str(tmp_path)], "not prepared"),
        (["run", "--out", "file"], "is a file"),
    ):
        with pytest.raises(BadInput, match=message):
            main(["modes", *words])
    (run / "model.keras").unlink()
    with pytest.raises(BadInput, match="not finished"):
        main(["modes", "run"])
    (run / "SHA256SUMS").touch()
    with pytest.raises(BadInput, match="sealed"):
        locate.subject("seven.keras", "digits", out="run/inside")


def test_the_picture_holds_any_model(small, tmp_path):
    actual = compare_modes(small.build({}), small.batch(), samples=1)
    for row in (actual, {**actual, "layers": [], "batch_norms": [], "model": "$a_{b"}):
        for path in figure.write(row, tmp_path / "new"):
            assert path.stat().st_size


def test_help_needs_no_tensorflow(request):
    code = "import sys; from zoo.__main__ import main\ntry: main(['modes', '--help'])\n"
    code += "except SystemExit: sys.exit('tensorflow' in sys.modules or 'matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=request.config.rootpath, capture_output=True, check=True)

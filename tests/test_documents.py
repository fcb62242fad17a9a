"""Every command and every Python block of the README and the guides runs as written, and so do the notebooks.

A page is run from top to bottom in an empty folder: its Python blocks share their variables, its
commands are the installed project's. Only what stands in `SHRUNK` and `ELSEWHERE` differs from the text.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").glob("guides/*.md")))]
PAGES += ["docs/index.md", "docs/placement.md"]
# Options that shorten a command; the last one of a kind counts.
SHRUNK = {
    "python -m trainers train": "--epochs 1",
    "python -m trainers compare --backend dask": "--epochs 1 --seeds 1 --train-size 200",
    "python -m trainers compare --model applications": "--epochs 1 --seeds 1 --workers 1 --train-size 100",
    "python -m trainers compare": "--epochs 1 --seeds 1 --workers 1",
    "python -m tuning search --tuner optuna": "--epochs 1 --max-trials 8 --train-size 100 --set hidden=16",
    "python -m tuning search": "--epochs 1 --max-trials 2",
    "python -m tuning cluster --chief": "--epochs 1 --train-size 200",
}
SHRUNK_OPTIONS = {
    "--retrain 5": "--retrain 2",
    "--executions 5": "--executions 3",
    "--formats keras,onnx": "--formats onnx",
}
# Commands that .ci/run carries out in environments of their own.
ELSEWHERE = {"pip install .": "clean install", "make demo": "make demo", "make test": "make lint test"}
# What TensorFlow and TFDS write when a page calls them itself.
NOT_OURS = ("before absl::InitializeLog()", "has no dataset_info.json")
SECONDS_TO_START = 6  # after a command that stays in the background

# Commands of the README run as a reader types them, in a shell each. Those of the other pages run in the page's own
# process, by the same modules, unless they need a shell: starting TensorFlow for each would take most of the time.
_RUN_PAGE = """
import json, runpy, shlex, subprocess, sys
from pathlib import Path

blocks, in_shells, variables = json.load(open(sys.argv[1])), sys.argv[2] == "shells", {"__name__": "page"}

def run(line):
    words = shlex.split(line)
    if in_shells or words[:2] != ["python", "-m"] or set("&|;<>$*`") & set(line):
        return subprocess.run(["bash", "-ec", line], check=True)
    given, sys.argv = sys.argv, words[2:]
    try:
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        assert not end.code, (line, end.code)
    finally:
        sys.argv = given

for kind, text in blocks:
    print(text, flush=True)
    if kind == "python":
        exec(compile(text, "page", "exec"), variables)
    elif "&" in text:
        run(text)
    else:
        for line in text.splitlines():
            run(line)
"""


def blocks(page):
    """The `bash` and `python` blocks of a page, as (language, text)."""
    text = (ROOT / page).read_text(encoding="utf-8")
    actual = re.findall(r"^ *```(bash|python)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [(kind, block.replace("\\\n", " ") if kind == "bash" else block) for kind, block in actual]


def shrunk(block):
    """The lines of a `bash` block, shortened; commands in the background get time to start, and end with the block."""
    lines = []
    for line in block.splitlines():
        command = line.partition("  #")[0].strip()
        if not command or command in ELSEWHERE:
            continue
        background = command.endswith("&")
        command = command.removesuffix("&").strip()
        for option, shorter in SHRUNK_OPTIONS.items():
            command = command.replace(option, shorter)
        command += next((f" {options}" for start, options in SHRUNK.items() if command.startswith(start)), "")
        # What a scheduler or a chief writes when it is ended is not what a reader sees.
        lines.append(f"{command} 2> /dev/null & sleep {SECONDS_TO_START}" if background else command)
    ended = ["kill $(jobs -p) 2> /dev/null || true"] if any("&" in line for line in lines) else []
    return "\n".join([*lines, *ended])


def environment():
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "TFDS_DATA_DIR")}
    return kept | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])}


@pytest.mark.parametrize(
    "page",
    # The cluster's commands name a port, which test_dask.py needs too.
    [pytest.param(page, marks=pytest.mark.xdist_group("dask")) if "machines" in page else page for page in PAGES],
)
def test_a_page_runs_from_top_to_bottom(page, tmp_path):
    script = [(kind, shrunk(text) if kind == "bash" else text) for kind, text in blocks(page)]
    assert script
    (tmp_path / "page.json").write_text(json.dumps(script))
    (tmp_path / "docs").symlink_to(ROOT / "docs")  # scripts of a checkout
    command = [sys.executable, "-c", _RUN_PAGE, "page.json", "shells" if page == "README.md" else "here"]
    answer = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=600, start_new_session=True
    )
    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-3000:]
    warnings = [line for line in answer.stderr.splitlines() if "warning" in line.lower()]
    assert not [line for line in warnings if not any(text in line for text in NOT_OURS)], warnings


def test_the_pages_name_commands_that_exist_alone():
    known = ("python -m trainers ", "python -m tuning ", "python -m zoo ", "dask ", "dropout-zoo ")
    known += ("python docs/examples/serving/",)
    for page in PAGES:
        for kind, text in blocks(page):
            for line in text.splitlines() if kind == "bash" else ():
                command = line.partition("  #")[0].strip()
                assert not command or command in ELSEWHERE or command.startswith(known), (page, line)


@pytest.mark.parametrize("notebook", sorted(path.name for path in (ROOT / "docs" / "examples").glob("*.ipynb")))
def test_an_example_runs(notebook, tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(ROOT / "docs" / "examples" / notebook, as_version=4)
    monkeypatch.setenv("PATH", environment()["PATH"])
    NotebookClient(book, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    noise = [output["text"] for output in outputs if output.get("name") == "stderr"]
    assert not noise, noise
    assert outputs


def test_the_readme_is_short_and_its_links_lead_somewhere():
    for page in ("README.md", *PAGES):
        text = (ROOT / page).read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert ((ROOT / page).parent / link).exists(), (page, link)
    assert (ROOT / "README.md").read_text().count("\n") <= 150

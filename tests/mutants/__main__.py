"""`python tests/mutants run`: does the test suite notice small mistakes? `report` lists those that it does not.

Each mutant is written into a copy of the checkout, where the tests nearest to its file run until one fails. The
outcome is appended to `build/mutants.jsonl`, so that an interrupted run goes on where it was. Survivors that change
nothing a user can see stand in `equivalent.jsonl`, each with its reason.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from core import FILES, examples
from operators import Mutant, draw

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = ROOT / "build" / "mutants.jsonl"
EQUIVALENT = HERE / "equivalent.jsonl"
COUNT, SEED = 200, 0
SLOWEST = 3.0  # a mutant may take so many times the seconds of the tests without a mistake
LEAST = 60.0  # seconds; a smaller limit would measure the machine


def main(words: list[str] | None = None) -> int:
    """Runs a command line; returns 1 if mutants survived without a reason."""
    parser = argparse.ArgumentParser(prog="python tests/mutants", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("run", "report", "list"))
    parser.add_argument("--count", type=int, default=COUNT, help=f"mutants drawn ({COUNT})")
    parser.add_argument("--seed", type=int, default=SEED, help=f"seed of the draw ({SEED})")
    parser.add_argument("--only", default="", metavar="TEXT", help="only files whose path holds this text")
    parser.add_argument("--most", type=int, metavar="N", help="run at most N mutants now")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file of outcomes")
    options = parser.parse_args(words)
    drawn = draw({file: (ROOT / file).read_text() for file in FILES}, options.count, options.seed)
    drawn = [mutant for mutant in drawn if options.only in mutant.file]
    if options.command == "list":
        print("\n".join(map(line_of, drawn)))
        return 0
    if options.command == "run":
        run(drawn, options.results, options.most)
    return report(drawn, options.results)


def run(drawn: list[Mutant], results: Path, most: int | None = None) -> None:
    """Runs the mutants that have no outcome yet, at most `most` of them."""
    done = outcomes(results)
    waiting = [mutant for mutant in drawn if mutant.key not in done][:most]
    results.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        copy_checkout(Path(scratch))
        seconds: dict[tuple, float] = {}
        for number, mutant in enumerate(waiting, start=1):
            path = Path(scratch) / mutant.file
            source = path.read_text()
            tests = (*examples(mutant.file, source), *FILES[mutant.file])
            if tests not in seconds:
                outcome, seconds[tests] = tested(Path(scratch), tests, None)
                if outcome != "survived":
                    raise SystemExit(f"{', '.join(tests)} must pass without a mistake, got failures; mend them first")
            path.write_text(mutant.apply(source))
            try:
                outcome, took = tested(Path(scratch), tests, max(LEAST, SLOWEST * seconds[tests]))
            finally:
                path.write_text(source)
            with open(results, "a", encoding="utf-8") as file:
                file.write(json.dumps({**mutant.to_json(), "outcome": outcome, "seconds": round(took, 1)}) + "\n")
            print(f"{number}/{len(waiting)} {outcome:8} {line_of(mutant)}", file=sys.stderr, flush=True)


def copy_checkout(target: Path) -> None:
    """Copies the files of the checkout that git knows or does not ignore."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def tested(folder: Path, tests: tuple[str, ...], limit: float | None) -> tuple[str, float]:
    """Runs tests in a copy of the checkout; returns `killed`, `timeout` or `survived`, and the seconds.

    Without a limit, the output of the tests is shown.
    """
    # Compiled files are told apart by their seconds, and mutants come faster.
    paths = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", *(f"tests/{test}" for test in tests)]
    begun = time.monotonic()
    shown = None if limit is None else subprocess.DEVNULL  # failures without a mistake are for people
    process = subprocess.Popen(words, cwd=folder, env=environment, stdout=shown, stderr=shown, start_new_session=True)
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.wait()
    return "timeout" if code is None else "survived" if code == 0 else "killed", time.monotonic() - begun


def report(drawn: list[Mutant], results: Path) -> int:
    """Prints the survivors and their share; returns 1 if some have no reason."""
    done, reasons = outcomes(results), {entry["key"]: entry["reason"] for entry in read(EQUIVALENT)}
    ran = [mutant for mutant in drawn if mutant.key in done]
    survivors = [mutant for mutant in ran if done[mutant.key] == "survived"]
    open_ones = [mutant for mutant in survivors if mutant.key not in reasons]
    counts = {outcome: sum(done[m.key] == outcome for m in ran) for outcome in ("killed", "timeout", "survived")}
    print(f"{len(ran)} of {len(drawn)} mutants ran: {', '.join(f'{n} {outcome}' for outcome, n in counts.items())}")
    judged = len(ran) - (len(survivors) - len(open_ones))
    if judged:
        share = 100 * len(open_ones) / judged
        print(f"{len(survivors) - len(open_ones)} survivors are equivalent; of the others {share:.1f} % survived")
    for mutant in open_ones:
        print(f"{mutant.key}  {line_of(mutant)}")
    return 1 if open_ones else 0


def outcomes(results: Path) -> dict[str, str]:
    """Returns the outcome of each mutant that ran, by key."""
    return {entry["key"]: entry["outcome"] for entry in read(results)}


def read(path: Path) -> list[dict]:
    """Returns the objects of a JSON-lines file; a last line that was cut off is left out."""
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries


def line_of(mutant: Mutant) -> str:
    """Returns a mutant in one line."""
    before, after = (" ".join(part.split()) for part in (mutant.before, mutant.after))
    return f"{mutant.file}:{mutant.line} [{mutant.operator}] {before[:80]}  ->  {after[:80]}"


if __name__ == "__main__":
    sys.exit(main())

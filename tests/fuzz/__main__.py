"""`python tests/fuzz`: thousands of bad inputs, each of which has to end with one message.

Cases are drawn from a seed and run in one process, and some of them as processes of their own. What is wrong is
printed, and every outcome stands in `build/fuzz.jsonl`.
"""

import argparse
import dataclasses
import faulthandler
import json
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
COUNT, PROCESSES, SEED = 2000, 100, 0


def main(words: list[str] | None = None) -> int:
    """Runs a command line; returns 1 if a case is wrong."""
    parser = argparse.ArgumentParser(prog="python tests/fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=COUNT, help=f"cases in one process ({COUNT})")
    parser.add_argument("--processes", type=int, default=PROCESSES, help=f"cases in their own ({PROCESSES})")
    parser.add_argument("--seed", type=int, default=SEED, help=f"seed of the draw ({SEED})")
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases whose name holds this text")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="begin with case N")
    parser.add_argument("--world", type=Path, help="folder of the good files, made if it does not exist")
    options = parser.parse_args(words)

    from zoo import startup

    startup.tensorflow(threads=2)
    import cases
    import judge
    import world

    drawn = [case for case in cases.draw(options.count, options.seed) if options.only in case.name][options.first :]
    # Processes cannot be given a NUL.
    lines = [case for case in drawn if case.argv and not any("\0" in word for word in case.argv)]
    (ROOT / "build").mkdir(exist_ok=True)
    shown = os.fdopen(os.dup(2), "w", errors="backslashreplace")
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)  # what native code prints
    sys.stderr = shown
    with tempfile.TemporaryDirectory() as scratch, open(ROOT / "build/fuzz.jsonl", "w") as results:
        made = options.world or Path(scratch, "world")
        if not made.exists():
            world.build(made)
        base = judge.with_tensorflow()

        def noted(number, outcome, total):
            results.write(json.dumps(dataclasses.asdict(outcome)) + "\n")
            results.flush()
            if outcome.wrong:
                print(f"WRONG {outcome.name}\n      {outcome.wrong}", file=shown, flush=True)
            elif number % 100 == 0:
                print(f"{number} of {total}", file=shown, flush=True)
            return outcome

        begun, outcomes = time.monotonic(), []
        for number, case in enumerate(drawn, start=1):
            faulthandler.dump_traceback_later(10 * judge.SECONDS, exit=True, file=shown)
            outcome = judge.in_process(case, made, Path(scratch, "case"))
            if outcome.wrong.startswith("it took more than"):  # perhaps the machine was busy
                outcome = judge.in_process(case, made, Path(scratch, "case"))
            outcomes.append(noted(number, outcome, len(drawn)))
        faulthandler.cancel_dump_traceback_later()
        chosen = lines[:: max(1, len(lines) // max(1, options.processes))][: options.processes]
        apart = [
            noted(number, judge.as_process(case, made, Path(scratch, "case"), base), len(chosen))
            for number, case in enumerate(chosen, start=1)
        ]
    for what, those in (("in one process", outcomes), ("in processes of their own", apart)):
        codes = {code: sum(o.code == code for o in those) for code in sorted({o.code for o in those}, key=str)}
        slowest, largest = (max((getattr(o, key) for o in those), default=0) for key in ("seconds", "grown"))
        wrong = sum(bool(o.wrong) for o in those)
        print(
            f"{len(those)} cases {what}: {wrong} wrong; exit codes {codes}; the slowest {slowest:.1f} s, the largest "
            f"{largest >> 20} MiB more"
        )
    print(f"{time.monotonic() - begun:.0f} s; see build/fuzz.jsonl")
    return int(any(o.wrong for o in (*outcomes, *apart)))


if __name__ == "__main__":
    sys.exit(main())

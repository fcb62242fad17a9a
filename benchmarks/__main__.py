"""`python -m benchmarks`: measure, print, and write `benchmarks/results.json`."""

import json
import sys
from pathlib import Path

from zoo.command import Parser, run
from zoo.errors import BadInput

FASHION = {"mlp": None, "cnn": 4000, "resnet": 4000, "transformer": 4000}
NAMES = ("digits", *FASHION)


def main(argv=None):
    """Measure what was asked for, and keep what was measured before of the rest."""
    parser = Parser(prog="python -m benchmarks", description="Ratios against stock Keras, measured in one run.")
    parser.add_argument("only", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)} (all)")
    wanted = parser.parse_args(argv).only or NAMES
    for name in wanted:
        if name not in NAMES:
            raise BadInput(f"received the benchmark {name!r}; there are {', '.join(NAMES)}")

    from benchmarks import training
    from zoo.files import write_json

    path = Path(__file__).with_name("results.json")
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in wanted:
        result = training.digits() if name == "digits" else training.fashion(name, FASHION[name])
        results[name] = {**result, "machine": training.machine()}
        print(f"{name}: {result['what']}: {result['ratio']:.2f} times the speed of stock fit", flush=True)
        write_json(path, results)


if __name__ == "__main__":
    run(lambda: main(sys.argv[1:]))

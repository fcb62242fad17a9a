"""`python -m benchmarks`: measure, print, and write `benchmarks/results.json`."""

import json
import sys
from pathlib import Path

from zoo.command import Parser, run
from zoo.errors import BadInput

FASHION = {"mlp": None, "cnn": 4000, "resnet": 4000, "transformer": 4000}
ARTEFACTS = ("overhead", "monte_carlo", "onnx_monte_carlo", "cold_start", "memory")
TUNING = ("tuners", "trial", "workers")
PRICE = ("price", "widths")
NAMES = ("digits", *FASHION, "loop", *PRICE, "attempts", "peers", *ARTEFACTS, *TUNING)


def main(argv=None):
    """Measure what was asked for, and keep what was measured before of the rest."""
    parser = Parser(
        prog="python -m benchmarks",
        description="Ratios against stock Keras, PyTorch and bare runtimes, each measured in one run.",
    )
    parser.add_argument("only", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)} (all)")
    wanted = parser.parse_args(argv).only or NAMES
    for name in wanted:
        if name not in NAMES:
            raise BadInput(f"received the benchmark {name!r}; there are {', '.join(NAMES)}")

    from zoo import startup

    startup.keep_memory()  # as every run of `trainers` does
    from benchmarks import figure
    from benchmarks.training import machine
    from zoo.files import write_json

    path = Path(__file__).with_name("results.json")
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in wanted:
        result = _measure(name)
        results[name] = {**result, "machine": machine()}
        print(f"{name}: {_told(result)}", flush=True)
        write_json(path, results)
        figure.draw(results)


def _measure(name):
    from benchmarks import artefacts, attempts, loop, peers, price, training, tuning

    if name in FASHION:
        return training.fashion(name, FASHION[name])
    rooms = {"digits": training, "loop": loop, "attempts": attempts, "peers": peers}
    rooms |= dict.fromkeys(PRICE, price) | dict.fromkeys(TUNING, tuning) | dict.fromkeys(ARTEFACTS, artefacts)
    return getattr(rooms[name], name)()


def _told(result):
    """The figures of a result that are not lists, and its rows."""
    parts = [f"{key.replace('_', ' ')} {value:.3g}" for key, value in result.items() if isinstance(value, float)]
    parts += [", ".join(f"{k.replace('_', ' ')} {_short(v)}" for k, v in row.items()) for row in result.get("rows", ())]
    return "\n  ".join([result["what"], *parts, *([result["left_out"]] if "left_out" in result else [])])


def _short(value):
    return f"{value:.3g}" if isinstance(value, float) else value


if __name__ == "__main__":
    run(lambda: main(sys.argv[1:]))

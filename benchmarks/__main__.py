"""`python -m benchmarks`: measures, prints, and writes `benchmarks/results.json`."""

import json
import sys
from pathlib import Path

from zoo.checks import one_of
from zoo.cli import Parser, run

FASHION = {"mlp": None, "cnn": 4000, "resnet": 4000, "transformer": 4000}
ARTEFACTS = ("overhead", "monte_carlo", "onnx_monte_carlo", "masks", "uncertainty", "cold_start", "memory")
TUNING = ("tuners", "trial", "workers")
REPLAYED = ("regret", "stopping")
PRICE = ("price", "widths")
MODELS = ("own_models", "surgery")
SWEEPS = ("shared", "demo")
LOOP = ("digits", *FASHION, "loop", "disk", "attempts", "peers")
NAMES = (*LOOP, *PRICE, *MODELS, *ARTEFACTS, *TUNING, *REPLAYED, *SWEEPS)


def main(argv: list[str] | None = None) -> None:
    """Runs the benchmarks of a command line; the results of the others stay in the file.

    Raises:
        BadInput: there is no benchmark of a name.
    """
    parser = Parser(
        prog="python -m benchmarks",
        description="Measure ratios against stock Keras, PyTorch and bare runtimes, each within one run.",
    )
    parser.add_argument("only", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)} (default: all)")
    wanted = parser.parse_args(argv).only or NAMES
    for name in wanted:
        one_of("NAME", name, NAMES)

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
        print(f"{name}: {_described(result)}", flush=True)
        write_json(path, results)
        figure.draw(results)


def _measure(name):
    from benchmarks import artefacts, attempts, loop, models, peers, price, regret, sweeps, training, tuning

    if name in FASHION:
        return training.fashion(name, FASHION[name])
    rooms = {"digits": training, "loop": loop, "disk": loop, "attempts": attempts, "peers": peers}
    rooms |= dict.fromkeys(MODELS, models) | dict.fromkeys(SWEEPS, sweeps) | dict.fromkeys(REPLAYED, regret)
    rooms |= dict.fromkeys(PRICE, price) | dict.fromkeys(TUNING, tuning) | dict.fromkeys(ARTEFACTS, artefacts)
    return getattr(rooms[name], name)()


def _described(result):
    """The figures of a result, then its rows, a line each."""
    parts = [f"{key.replace('_', ' ')} {value:.3g}" for key, value in result.items() if isinstance(value, float)]
    parts += [", ".join(f"{k.replace('_', ' ')} {_short(v)}" for k, v in row.items()) for row in result.get("rows", ())]
    return "\n  ".join([result["what"], *parts, *([result["left_out"]] if "left_out" in result else [])])


def _short(value):
    return f"{value:.3g}" if isinstance(value, float) else value


if __name__ == "__main__":
    run(lambda: main(sys.argv[1:]))

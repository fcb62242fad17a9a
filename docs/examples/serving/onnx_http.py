"""Serves an artefact over HTTP with ONNX Runtime and FastAPI: `pip install '.[serve]'`.

TensorFlow is not loaded.

    python onnx_http.py ARTEFACT [--port 8000]

It listens on loopback alone; put a proxy with TLS, authentication and a limit on the size of requests in front
of it. The page /docs describes the endpoints.
"""

import argparse
from pathlib import Path
from typing import Literal

import fastapi
import numpy as np
import pydantic
import uvicorn

import zoo

MOST = 256  # examples of a request
MOST_SAMPLES = 200


class Request(pydantic.BaseModel, extra="forbid"):
    """A question: some examples, and how to predict them."""

    inputs: list = pydantic.Field(min_length=1, max_length=MOST)  # pixels, rows of numbers, or texts
    mode: Literal["inference", "mc"] = "inference"
    samples: int = pydantic.Field(1, ge=1, le=MOST_SAMPLES)
    seed: int | None = None  # drawn and reported if missing
    masks: Literal["per-example", "shared"] = "shared"  # what else a request holds does not change an answer
    calibrated: bool = False
    coverage: float | None = None


def application(folder: Path, threads: int | None = None) -> fastapi.FastAPI:
    """Returns the application that serves the artefact in `folder`. Its files are checked and opened at once."""
    artefact = zoo.load(folder, runtime="onnx", threads=threads)
    for mode in artefact.modes:
        artefact.open(mode)
    app = fastapi.FastAPI(title=artefact.name)

    @app.get("/labels", response_class=fastapi.responses.PlainTextResponse)
    def labels() -> str:
        """The names of the classes, one per line, in the order of `probabilities`."""
        return "".join(f"{label}\n" for label in artefact.labels)

    @app.get("/model")
    def model() -> dict:
        """What the model takes, and in which modes it runs."""
        return {"name": artefact.name, "modes": artefact.modes, "input": artefact.card["input"]}

    @app.post("/predict")
    def predict(request: Request) -> dict:
        """Predicts the class of each example."""
        drawn = request.mode == "mc"
        try:
            predictions = artefact.predict(
                request.inputs,
                mode=request.mode,
                samples=request.samples,
                seed=request.seed,
                masks=request.masks if drawn else "per-example",
                calibrated=request.calibrated,
                coverage=request.coverage,
            )
        except zoo.BadInput as error:  # the message says what is allowed
            raise fastapi.HTTPException(422, str(error)) from error
        return {"mode": request.mode, "seed": predictions.seed, "predictions": rows(predictions)}

    return app


def rows(predictions) -> list[dict]:
    """Returns an answer for each example."""
    answers = []
    for i, index in enumerate(predictions.classes.tolist()):
        answer = {
            "class": predictions.labels[index],
            "index": index,
            "probabilities": predictions.probabilities[i].tolist(),
            "entropy": float(predictions.entropy[i]),
        }
        if predictions.mode == "mc":
            answer["std"] = predictions.std[i].tolist()
            answer["mutual_information"] = float(predictions.mutual_information[i])
        if predictions.sets is not None:
            answer["set"] = [predictions.labels[k] for k in np.flatnonzero(predictions.sets[i])]
        answers.append(answer)
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artefact", type=Path, metavar="ARTEFACT", help="folder of an artefact, or a shipped name")
    parser.add_argument("--port", type=int, default=8000, help="port on 127.0.0.1; 0 chooses a free one (8000)")
    parser.add_argument("--threads", type=int, help="threads of a prediction (all cores)")
    arguments = parser.parse_args()
    try:
        app = application(arguments.artefact, arguments.threads)
    except zoo.BadInput as error:
        raise SystemExit(str(error)) from None
    uvicorn.run(app, host="127.0.0.1", port=arguments.port)


if __name__ == "__main__":
    main()

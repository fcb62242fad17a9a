"""Predictions as the command line prints them: one JSON object, or a table."""

_WIDEST = 60  # characters of an input or a label in the table


def as_json(names, predictions):
    """The dictionary that `predict --json` prints."""
    found = []
    for i, (name, class_) in enumerate(zip(names, predictions.classes.tolist(), strict=True)):
        row = {
            "input": name,
            "class": class_,
            "label": predictions.labels[class_],
            "probability": float(predictions.probabilities[i, class_]),
            "probabilities": predictions.probabilities[i].tolist(),
            "std": predictions.std[i].tolist(),
            "entropy": float(predictions.entropy[i]),
        }
        if predictions.mode == "mc":
            row["mutual_information"] = float(predictions.mutual_information[i])
        found.append(row)
    result = {"predictions": found, "mode": predictions.mode, "runtime": predictions.runtime}
    if predictions.mode == "mc":
        result |= {"seed": predictions.seed, "samples": len(predictions.logits)}
    return result


def as_table(names, predictions):
    """Aligned columns, a row an input; in mc also how far the samples agree, and what they were drawn with."""
    given = as_json(names, predictions)
    mc = predictions.mode == "mc"
    rows = [["input", "class", "probability"] + (["spread", "entropy", "mutual information"] if mc else [])]
    for row in given["predictions"]:
        figures = [row["probability"]]
        if mc:
            figures += [row["std"][row["class"]], row["entropy"], row["mutual_information"]]
        rows.append([_shown(row["input"]), _shown(row["label"]), *(f"{figure:.4f}" for figure in figures)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(_cells(row, widths)).rstrip() for row in rows]
    drawn = f", {given['samples']} samples, seed {given['seed']}" if mc else ""
    return "\n".join([*lines, "", f"mode {given['mode']}{drawn}; runtime {given['runtime']}"])


def _cells(row, widths):
    """Words to the left, figures to the right."""
    for i, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.ljust(width) if i < 2 else cell.rjust(width)


def _shown(text):
    """A text on one line: cut, and without what could steer a terminal."""
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 3] + "..."

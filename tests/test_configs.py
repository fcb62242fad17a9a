"""Configurations of networks."""

import pytest

from zoo.models import catalogue
from zoo.models.configs import widened


@pytest.mark.parametrize(
    ("model", "settings", "factor", "expected"),
    [
        ("mlp", {"hidden": "100/50"}, 2, {"hidden": (200, 100)}),
        ("cnn", {"filters": "8/16", "hidden": "3"}, 0.1, {"filters": (1, 2), "hidden": (1,), "convolutions": 2}),
        ("resnet", {}, 0.5, {"filters": (8, 16, 32), "blocks": (1, 1, 1)}),
        ("transformer", {"heads": 4}, 1.1, {"width": 72, "ffn": 280, "heads": 4, "depth": 4, "patch": 4}),
    ],
)
def test_a_factor_changes_the_widths_and_nothing_else(model, settings, factor, expected):
    wide = widened(catalogue.configure(model, settings), factor)
    assert {name: getattr(wide, name) for name in expected} == expected

"""The benchmarks' command lines; what they measure is never a test."""

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import evidence
from zoo.errors import BadInput


def test_an_unknown_benchmark_is_refused_before_anything_is_measured():
    with pytest.raises(BadInput, match="received the benchmark 'nonsense'; there are digits, mlp"):
        benchmarks.main(["digits", "nonsense"])


def test_a_run_that_is_not_there_cannot_be_kept(tmp_path):
    with pytest.raises(BadInput, match=r"config\.json"):
        evidence.main([str(tmp_path)])

"""How TensorFlow starts: fast in processes of this project, as always in those of others."""

import subprocess
import sys

import pytest

CODE = """
import gc, sys
from zoo import startup
{before}
startup.tensorflow()
print(sorted({{"matplotlib", "pandas", "sklearn"}} & set(sys.modules)), gc.isenabled(), gc.get_freeze_count() > 0)
import matplotlib.pyplot, pandas, sklearn
"""


@pytest.mark.parametrize(
    ("before", "printed"),
    [
        ("startup.own_process()", "[] True True"),
        ("import pandas; startup.own_process()", "['pandas'] True True"),
        ("", "['matplotlib', 'pandas', 'sklearn'] True False"),
        ("gc.disable()", "['matplotlib', 'pandas', 'sklearn'] False False"),
    ],
)
def test_keras_does_without_other_packages_in_own_processes_alone(before, printed):
    code = CODE.format(before=before)
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == printed

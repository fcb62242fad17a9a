"""Worker processes: they end with whoever asked for their runs, and those that are killed do not end a sweep."""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Runs that only wait, so that nothing but the processes themselves is tested.
RUNS = """
import os, sys, time
from pathlib import Path
from trainers.parallel import processes
from trainers.parallel.jobs import Job, Outcome

def slow(job, parent, threads, options):
    time.sleep(0.3)
    return Outcome(job, {})

def killed(job, parent, threads, options):
    mark = Path(job.folder)
    if job.seed % 3 == 0 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), 9)
    return Outcome(job, {})

jobs = [Job("mlp", "none", seed, {}, str(Path(sys.argv[1]) / str(seed))) for seed in range(12)]
"""
RAISES = """
processes.attempt = slow
for outcome in processes.carry_out(jobs, 2, 1):
    raise RuntimeError("the disk is full")
"""
KILLS = """
processes.attempt = killed
print(sum(outcome.metrics is not None for outcome in processes.carry_out(jobs, 2, 1)))
"""


def child(tmp_path, code):
    command = [sys.executable, "-c", RUNS + code, str(tmp_path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90)


def test_an_error_between_two_runs_ends_the_sweep_at_once(tmp_path):
    begun = time.monotonic()
    ended = child(tmp_path, RAISES)
    assert "the disk is full" in ended.stderr
    assert ended.returncode == 1
    assert time.monotonic() - begun < 60


def test_workers_may_be_killed_more_often_than_the_tries_if_runs_end_in_between(tmp_path):
    ended = child(tmp_path, KILLS)
    assert ended.stdout.split() == ["12"], ended.stderr

"""Runs a case and says whether the answer is right: an exit code, one message, in time, within the memory."""

import contextlib
import dataclasses
import importlib
import io
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

from cases import Case

from zoo.cli import run
from zoo.errors import RunFailed

SECONDS = 20  # of a case in this process
STARTING = 40  # more, of a process that has to import TensorFlow on a busy machine
BYTES = 2**30  # that a case may take beyond those of the process before it
LONGEST = 8000  # characters of a message


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a case did.

    Attributes:
        name: the case.
        code: exit code; of a call, 0 for a result and 2 for a refusal.
        wrong: why that is not right, an empty text if it is.
        seconds: how long it took.
        grown: bytes of memory at its peak beyond those before.
        message: what it printed on stderr, or the refusal.
    """

    name: str
    code: int | None
    wrong: str
    seconds: float
    grown: int
    message: str


class Hang(BaseException):
    """The time of a case is over."""


def in_process(case: Case, made: Path, scratch: Path) -> Outcome:
    """Runs a case in this process, in a copy of the world `made` at `scratch`."""
    folder, before = _copied(case, made, scratch), Path.cwd()
    out, err, code, wrong = io.StringIO(), io.StringIO(), None, ""
    os.chdir(folder)
    base, begun = _peak(reset=True), time.monotonic()
    signal.signal(signal.SIGALRM, _hang)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = _carried_out(case, folder, err)
    except Hang:
        wrong = f"it took more than {SECONDS} s: {_last(sys.exc_info()[2])}"
    except BaseException as error:  # whatever it is, it is the outcome
        wrong = f"{type(error).__name__}: {str(error)[:200]} at {_last(error.__traceback__)}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.chdir(before)
    seconds, grown, message = time.monotonic() - begun, _peak() - base, err.getvalue()
    wrong = wrong or _wrong(case, code, message) or (f"it took {grown >> 20} MiB more" if grown > BYTES else "")
    shutil.rmtree(scratch, ignore_errors=True)
    return Outcome(case.name, code, wrong, seconds, grown, message)


def as_process(case: Case, made: Path, scratch: Path, base: int) -> Outcome:
    """Runs a command line as a process of its own; `base` is the memory of one that has imported TensorFlow."""
    folder, begun = _copied(case, made, scratch), time.monotonic()
    root = Path(__file__).parents[2]
    with open(scratch / ".err", "w+b") as err:
        command = [sys.executable, "-m", *(os.fsencode(_placed(word, folder)) for word in case.argv)]
        environment = {**os.environ, "PYTHONPATH": str(root)}
        null = subprocess.DEVNULL
        process = subprocess.Popen(command, cwd=folder, env=environment, stdin=null, stdout=null, stderr=err)
        code, wrong, most = None, "", 0
        while code is None:
            most = max(most, _memory(process.pid))
            pid, status = os.waitpid(process.pid, os.WNOHANG)
            if pid:
                code = process.returncode = os.waitstatus_to_exitcode(status)
            elif time.monotonic() - begun > SECONDS + STARTING:
                process.kill()
                process.wait()
                code, wrong = -9, f"it took more than {SECONDS + STARTING} s"
            time.sleep(0.02)
        err.seek(0)
        message = err.read().decode("utf-8", "replace")
    grown = max(0, most - base)
    wrong = wrong or _wrong(case, code, message) or (f"it took {grown >> 20} MiB more" if grown > BYTES else "")
    seconds = time.monotonic() - begun
    shutil.rmtree(scratch, ignore_errors=True)
    return Outcome(case.name, code, wrong, seconds, grown, message)


def with_tensorflow() -> int:
    """Returns the bytes of a process that has imported TensorFlow and Keras."""
    line = "import resource, keras, tensorflow; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    result = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    return int(result.stdout.split()[-1]) * 1024


def _copied(case, made, scratch):
    """Copies the world, makes what is odd, and damages it."""
    import world

    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(made, scratch)
    world.odd(scratch / "odd")
    case.prepare(scratch)
    return scratch


def _placed(word, folder):
    """Replaces {fifo}, {socket}, {loop} and {folder} in a word by paths."""
    for name in ("fifo", "socket", "loop", "folder"):
        word = word.replace(f"{{{name}}}", str(folder / "odd" / name))
    return word


def _carried_out(case, folder, err):
    if case.call:
        try:
            case.call(folder)
        except (ValueError, RunFailed) as refusal:  # BadInput is a ValueError; Keras has its own
            print(f"error: {refusal}", file=err)
            return 2
        return 0
    package, *words = case.argv
    main = importlib.import_module(f"{package}.__main__").main
    try:
        run(lambda: main([_placed(word, folder) for word in words]))
    except SystemExit as end:
        return end.code


def _wrong(case, code, message):
    """Returns why an exit code and a message are not right, an empty text if they are."""
    if code not in case.expect:
        return f"exit code {code}: {message[-300:]!r}"
    lines = [line for line in message.splitlines() if line.startswith(("error:", "failed:"))]
    if "Traceback" in message:
        return f"a traceback: {message[-300:]!r}"
    if code == 2 and len(lines) != 1:
        return f"{len(lines)} messages: {message[-300:]!r}"
    if code == 2 and (len(lines[0]) > LONGEST or len(lines[0]) < 12):
        return f"a message of {len(lines[0])} characters: {lines[0][:300]!r}"
    return ""


def _hang(number, frame):
    raise Hang


def _last(trace):
    """Returns the last place of a traceback that is in the project, and the very last one."""
    frames = traceback.extract_tb(trace)
    ours = [frame for frame in frames if any(f"/{name}/" in frame.filename for name in ("zoo", "trainers", "tuning"))]
    places = [*(ours[-1:] or frames[:1]), frames[-1]] if frames else []
    return " <- ".join(f"{'/'.join(Path(f.filename).parts[-2:])}:{f.lineno}" for f in reversed(places))


def _peak(reset=False):
    """Returns the largest memory of this process since it was last reset (on Linux)."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        if memory := _memory("self"):
            return memory
    except OSError:
        pass  # not Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _memory(process):
    """Returns the largest memory of a process, 0 if it has ended; `wait4` counts that of its parent, too."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)

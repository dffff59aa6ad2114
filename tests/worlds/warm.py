"""A Python that has imported the libraries already, so that the thirteenth stage of a test does not import them again.

A process of the project spends 5 to 25 seconds of a core on importing torch, diffusers and transformers, `dvc` two, and
a run of the pipeline starts a dozen. Here one server imports them (and nothing of the project). `python -m MODULE ...`,
`python FILE.py ...` and `dvc ...`, found in a folder in front of PATH, send it arguments, folder, environment and their
three streams, and the server's fork runs the code as that command would. All workers of a test run share one server,
which ends with the run. Everything else, and every test of SIGKILL, uses the real Python.
"""

import fcntl
import functools
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

LIBRARIES = ("torch", "diffusers", "transformers", "pyiqa", "spandrel", "scipy.stats", "psutil", "pydantic", "yaml")
LIBRARIES += ("webdataset", "skimage.segmentation", "torch._dynamo", "diffusers.models.unets.unet_2d_condition")
LIBRARIES += ("diffusers.models.controlnets.controlnet", "diffusers.models.autoencoders.autoencoder_kl")
LIBRARIES += ("diffusers.schedulers.scheduling_dpmsolver_multistep", "torchvision.transforms.functional", "accelerate")
LIBRARIES += ("dvc.cli.parser", "dvc.repo.experiments.run", "dvc.repo.experiments.queue.workspace", "networkx")
LIBRARIES += ("pydantic.main", "pydantic.json_schema", "typer.main", "pyparsing", "ruamel.yaml", "pygit2")

# The commands in PATH: `-I -S` starts in a fortieth of a second.
_ASK = "exec {python} -I -S {here} ask {address}"
_DVC = f'#!/bin/sh\n{_ASK} -m dvc "$@"\n'
_PYTHON = f"""#!/bin/sh
case "$1" in -m|*.py) {_ASK} "$@";; esac
exec {{python}} "$@"
"""


@functools.cache
def folder() -> Path:
    """A folder to put in front of PATH; whoever asks first starts the server, and the others wait until it is ready."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        owner, made = os.getppid(), Path(tempfile.gettempdir(), f"warm-{os.environ['PYTEST_XDIST_TESTRUNUID']}")
        made.mkdir(mode=0o700, exist_ok=True)
    else:
        owner, made = os.getpid(), Path(tempfile.mkdtemp(prefix="warm-"))
    with (made / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / "python").exists():
            _start(made, owner)
    return made


def python() -> str:
    """The command itself, for tests that start no `dvc`."""
    return str(folder() / "python")


def _start(made: Path, owner: int) -> None:
    address = made / "socket"
    words = [sys.executable, "-W", "ignore", __file__, "serve", str(address), str(owner)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    server = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE)
    assert server.stdout is not None and server.stdout.readline() == b"ready\n"
    places = {"python": sys.executable, "here": __file__, "address": str(address)}
    for name, text in (("dvc", _DVC), ("python", _PYTHON)):
        command = made / name
        command.write_text(text.format(**{key: shlex.quote(place) for key, place in places.items()}))
        command.chmod(0o755)


def serve(address: str, owner: int) -> None:
    """Import the libraries, then answer each connection with a fork, as long as the process `owner` lives."""
    for library in LIBRARIES:
        __import__(library)
    sys.path.remove(str(Path(__file__).parent))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    listener.settimeout(1)
    print("ready", flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries them
    while _lives(owner):
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _run(connection)
        connection.close()
    shutil.rmtree(Path(address).parent, ignore_errors=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _run(connection: socket.socket) -> NoReturn:
    """In the fork: become the command, and tell its status."""
    message, streams, *_ = socket.recv_fds(connection, 1 << 20, 3)
    asked = json.loads(message)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))
    os.setpgid(0, 0)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    connection.sendall(f"{os.getpid()}\n".encode())
    status = 1
    try:
        _become(asked["arguments"])
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        connection.sendall(f"{status}\n".encode())
        os._exit(status)


def _become(words: list[str]) -> None:
    """Run `-m MODULE ...` or `FILE.py ...`; modules are looked for where the command would look for them."""
    import runpy

    module = words[0] == "-m"
    name, *arguments = words[1:] if module else words
    first = os.getcwd() if module else str(Path(name).absolute().parent)
    sys.path[:0] = [first, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = [name, *arguments]
    if module:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(name, run_name="__main__")


def ask(address: str, arguments: list[str]) -> int:
    """The command in PATH: hand over to the server, pass signals on, end as the fork ends (137 if it was killed)."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        asked = {"folder": os.getcwd(), "environment": dict(os.environ), "arguments": arguments}
        socket.send_fds(connection, [json.dumps(asked).encode()], [0, 1, 2])
        answers = connection.makefile()
        pid = int(answers.readline())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: os.kill(pid, number))
        return int(answers.readline() or 137)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(ask(sys.argv[2], sys.argv[3:]))

"""A Python that has imported the libraries already, so that the thirteenth stage of a test does not import them again.

A process of the project spends 5 to 15 seconds of a core on importing torch, diffusers and transformers, and a run of
the pipeline starts a dozen. Here one server imports them (and nothing of the project); `python -m pipeline ...`, found
in a folder in front of PATH, sends it arguments, folder, environment and its three streams, and the server's fork runs
the project's code as that command would. Everything else, and every test of killing, uses the real Python.
"""

import atexit
import functools
import json
import os
import shlex
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
LIBRARIES += ("diffusers.schedulers.scheduling_dpmsolver_multistep", "torchvision.transforms.functional")

# The command in PATH: `-I -S` starts in a fortieth of a second.
_CLIENT = """#!/bin/sh
if [ "$1" = -m ] && [ "$2" = pipeline ]; then exec {python} -I -S {here} ask {address} "$@"; fi
exec {python} "$@"
"""


@functools.cache
def folder() -> Path:
    """A folder to put in front of PATH; its server starts with the first call and ends with this process."""
    made = Path(tempfile.mkdtemp(prefix="warm-"))
    address = made / "socket"
    python, here = shlex.quote(sys.executable), shlex.quote(__file__)
    (made / "python").write_text(_CLIENT.format(python=python, here=here, address=shlex.quote(str(address))))
    (made / "python").chmod(0o755)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", __file__, "serve", str(address)], env=environment, stdout=subprocess.PIPE
    )
    atexit.register(server.kill)
    assert server.stdout is not None and server.stdout.readline() == b"ready\n"
    return made


def serve(address: str) -> NoReturn:
    """Import the libraries, then answer each connection with a fork."""
    for library in LIBRARIES:
        __import__(library)
    sys.path.remove(str(Path(__file__).parent))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries them
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _run(connection)
        connection.close()


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
    sys.argv = ["pipeline", *asked["arguments"]]
    sys.path.insert(0, asked["folder"])
    connection.sendall(f"{os.getpid()}\n".encode())
    status = 1
    try:
        import runpy

        runpy.run_module("pipeline", run_name="__main__", alter_sys=True)
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
        serve(sys.argv[2])
    sys.exit(ask(sys.argv[2], sys.argv[5:]))

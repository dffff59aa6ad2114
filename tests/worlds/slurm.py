"""SLURM on one machine: what `sbatch` does with a script, and doubles of `srun` and `scontrol` for it to find in PATH.

Every task is a process here. It is told what SLURM would tell it on a machine of its own; the machines of a job are
called `node[1-N]`, and the first of them resolves to this one.
"""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

_SRUN = """#!{python} -IS
import os, signal, subprocess, sys

command = sys.argv[1:]
while command[0].startswith("-"):
    option = command.pop(0)
    if not option.startswith(("--cpus-per-task=", "--kill-on-bad-exit=")):
        sys.exit(f"srun: unrecognized option '{{option}}'")
each, count = int(os.environ["SLURM_NTASKS_PER_NODE"]), int(os.environ["SLURM_NTASKS"])
tasks = []
for rank in range(count):
    said = {{"PROCID": rank, "LOCALID": rank % each, "NODEID": rank // each, "NTASKS": count, "STEP_ID": 0}}
    said["STEP_NODELIST"] = os.environ["SLURM_JOB_NODELIST"]
    environment = {{**os.environ, **{{f"SLURM_{{name}}": str(value) for name, value in said.items()}}}}
    tasks.append(subprocess.Popen(command, env=environment))
signal.signal(signal.SIGTERM, lambda *_: [task.terminate() for task in tasks])
with open({step!r}, "w") as file:
    file.write(str(os.getpid()))
ends = [task.wait() for task in tasks]
os.unlink({step!r})
sys.exit(max(128 - end if end < 0 else end for end in ends))
"""
_SCONTROL = """#!/bin/sh
[ "$*" = "show hostnames $SLURM_JOB_NODELIST" ] || {{ echo "scontrol: what is $*?" >&2; exit 1; }}
echo localhost
i=2; while [ $i -le {nodes} ]; do echo node$i; i=$((i + 1)); done
"""


class Slurm:
    """`nodes` machines of `tasks_per_node` tasks each; `folder` holds the doubles and copies of the scripts."""

    def __init__(self, folder: Path, nodes: int, tasks_per_node: int) -> None:
        self.nodes, self.tasks_per_node = nodes, tasks_per_node
        self.folder, self._step = folder, folder / "step"
        (folder / "bin").mkdir(parents=True)
        srun = _SRUN.format(python=sys.executable, step=str(self._step))
        for name, text in (("srun", srun), ("scontrol", _SCONTROL.format(nodes=nodes))):
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)

    def sbatch(
        self,
        script: Path,
        *arguments: str,
        cwd: Path,
        environment: Mapping[str, str],
        preempted_when: Callable[[], bool] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a job to its end; SIGTERM goes to all tasks, and not to the script, once `preempted_when` says so.

        The script runs as a copy in another folder, as SLURM runs it, with what its #SBATCH lines ask for but on this
        number of machines.
        """
        copy = shutil.copy(script, self.folder / "slurm_script")
        options = sbatch_options(script)
        told = {
            "JOB_ID": str(_free_port() - 20_000),
            "JOB_NODELIST": f"node[1-{self.nodes}]",
            "JOB_NUM_NODES": str(self.nodes),
            "NTASKS": str(self.nodes * self.tasks_per_node),
            "NTASKS_PER_NODE": str(self.tasks_per_node),
            "CPUS_PER_TASK": options["cpus-per-task"],
        }
        path = f"{self.folder / 'bin'}{os.pathsep}{environment['PATH']}"
        job = {**environment, "PATH": path, **{f"SLURM_{name}": value for name, value in told.items()}}
        out = self.folder / "slurm.log"
        with out.open("w") as log:
            running = subprocess.Popen(["sh", copy, *arguments], cwd=cwd, env=job, stdout=log, stderr=log)
            while preempted_when is not None and running.poll() is None:
                if preempted_when() and self._step.exists():
                    os.kill(int(self._step.read_text()), signal.SIGTERM)
                    break
                time.sleep(0.005)
            running.wait()
        return subprocess.CompletedProcess(running.args, running.returncode, out.read_text())


def sbatch_options(script: Path) -> dict[str, str]:
    """What the #SBATCH lines before the first command ask for, by name."""
    found: dict[str, str] = {}
    for line in script.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            break
        if line.startswith("#SBATCH "):
            for word in shlex.split(line.removeprefix("#SBATCH ")):
                name, _, value = word.removeprefix("--").partition("=")
                found[name] = value
    return found


def _free_port() -> int:
    """A port from 20000 to 29999 that nobody listens on."""
    for port in range(20_000 + os.getpid() % 9_000, 30_000):
        with socket.socket() as tried:
            if tried.connect_ex(("localhost", port)) != 0:
                return port
    raise RuntimeError("no port is free")

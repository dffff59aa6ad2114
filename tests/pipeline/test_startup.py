"""Help and refusals come before anything heavy is imported: modules are compared, not seconds."""

import errno
import shutil

import pytest
import yaml

from pipeline import cli
from pipeline.cli import app
from tests.worlds import ROOT, imports

ANSWERED = [["--help"], ["upscale", "--help"], ["models", "list"], ["cache", "stat"], ["status"]]
REFUSED = [
    (["train", "nosuch"], "No method 'nosuch'"),
    (["features", "nosuch"], "No method 'nosuch'"),
    (["latents", "--executor", "serial", "--workers", "2"], "The serial executor has one worker"),
    (["caption"], "patches.jsonl does not exist"),
    (["train", "spasemsr"], "does not exist"),
    (["evaluate", "spasemsr"], "models/spasemsr/config.json does not exist"),
    (["dial", "spasemsr"], "models/spasemsr/config.json does not exist"),
    (["report"], "does not exist"),
    (["upscale", "nosuch.jpg", "-o", "out"], "nosuch.jpg does not exist"),
    (["upscale", "params.yaml", "-o", "out", "--dial", "2"], "--dial: '2' is no number from 0 to 1"),
    (["score", "nosuch", "--hr", "nosuch"], "nosuch"),
]


@pytest.fixture
def project(tmp_path):
    """The project's params and nothing else."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def test_help_lists_and_what_is_refused_import_nothing_heavy(project):
    commands = [*ANSWERED, *(arguments for arguments, _ in REFUSED)]
    results = imports.run(commands, project, first=False, SPASEMSR_CACHE=str(project / "cache"))
    for arguments, (printed, imported) in zip(commands, results, strict=True):
        assert imported == set(), (arguments, printed)
        assert "status 0" in printed or arguments[0] != "--help", printed
    for (arguments, said), (printed, _) in zip(REFUSED, results[len(ANSWERED) :], strict=True):
        assert said in " ".join(printed.split()) and "status 2" in printed, (arguments, printed)


def test_no_command_hides_another():
    """Of two with one name the one registered later would run, whatever `dvc.yaml` means."""
    names = [command.name or command.callback.__name__ for command in app.registered_commands]
    names += [group.name for group in app.registered_groups]
    assert sorted(names) == sorted(set(names))


def test_bad_params_are_refused_before_a_stage_is_imported(project):
    params = yaml.safe_load((project / "params.yaml").read_text())
    (project / "params.yaml").write_text(yaml.safe_dump({**params, "lambda": 7}))
    ((printed, imported),) = imports.run([["train", "spasemsr"]], project, first=False)
    assert "lambda = 7" in printed and imported == set()


def test_a_missing_folder_of_initial_weights_is_refused(project):
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["embedded"]["train"]["init"] = "nosuch"
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    ((printed, _),) = imports.run([["train", "spasemsr"]], project, first=False)
    assert "status 2" in printed


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("evaluate", "baselines", ["bicubic", "bicubik"], "bicubik is no model of `spasemsr models list`"),
        ("train", "init", "data/nosuch", "start from data/nosuch/weights.safetensors, which does not exist"),
    ],
)
def test_dvc_is_told_at_its_first_stage_what_its_last_would_miss(project, section, key, value, said):
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["embedded"]["train"]["init"] = None
    params["embedded"][section][key] = value
    params["embedded"]["data"]["packages"] = []
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    first, last = [["ingest"]], [["report"]]
    ((printed, imported),) = imports.run(first, project, first=False, DVC_STAGE="ingest")
    assert said in " ".join(printed.split()) and "status 2" in printed and imported == set()
    ((by_hand, _),) = imports.run(first, project, first=False)
    assert "The folder data/raw does not exist" in by_hand, "another machine may have what is not here"
    ((printed, _),) = imports.run(last, project, first=False, DVC_STAGE="report")
    assert said not in " ".join(printed.split()), "no later stage needs it"


def test_a_full_disk_is_said_in_two_lines_and_a_defect_keeps_its_traceback(monkeypatch, capsys):
    def fail(error):
        def command():
            raise error

        monkeypatch.setattr(cli, "app", command)
        cli.main()

    with pytest.raises(SystemExit) as ended:
        fail(OSError(errno.ENOSPC, "No space left on device", "models/a"))
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith("error: models/a: No space left on device.\n       Free space")
    for error in (errno.ENOENT, "No such file or directory"), (errno.EACCES, "Permission denied"):  # of no file
        with pytest.raises(OSError, match=error[1]):
            fail(OSError(*error))
    for error in (
        (errno.EACCES, "Permission denied", "models/a"),
        (errno.ENAMETOOLONG, "File name too long", "a" * 300),
        (errno.ENOSPC, "No space left on device"),
    ):
        with pytest.raises(SystemExit):
            fail(OSError(*error))

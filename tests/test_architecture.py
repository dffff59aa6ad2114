"""Who may import whom, and that each stage of `dvc.yaml` watches what it runs."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
import yaml

from pipeline.code import code_digest

ROOT = Path(__file__).parent.parent
FILES = sorted([*ROOT.glob("spasemsr/**/*.py"), *ROOT.glob("pipeline/**/*.py")])

# Each layer may import itself and what is named; `TYPE_CHECKING` imports count, because readers follow them too.
LAYERS: dict[str, set[str]] = {
    "spasemsr": set(),
    "spasemsr.images": {"spasemsr"},
    "spasemsr.weights": {"spasemsr"},
    "spasemsr.scenes": {"spasemsr"},
    "spasemsr.data": {"spasemsr", "spasemsr.images", "spasemsr.scenes"},
    "spasemsr.backends": {"spasemsr", "spasemsr.images", "spasemsr.weights", "spasemsr.scenes"},
    "spasemsr.diffusion": {"spasemsr", "spasemsr.weights"},
    "spasemsr.methods": {"spasemsr", "spasemsr.weights", "spasemsr.diffusion", "spasemsr.backends", "spasemsr.data"},
    "spasemsr.students": {"spasemsr", "spasemsr.weights", "spasemsr.methods", "spasemsr.backends", "spasemsr.data"},
    "spasemsr.training": {"spasemsr", "spasemsr.weights", "spasemsr.methods", "spasemsr.data"},
    "spasemsr.evaluation": {"spasemsr", "spasemsr.weights", "spasemsr.backends.extractors", "spasemsr.images",
                            "spasemsr.backends.protocols",
                            "spasemsr.backends.networks", "spasemsr.diffusion.spec", "spasemsr.methods",
                            "spasemsr.data", "spasemsr.scenes"},
    "spasemsr.config": {"spasemsr", "SPECS", "spasemsr.methods.face"},
    "spasemsr.report": {"spasemsr", "spasemsr.images", "spasemsr.evaluation", "spasemsr.backends.extractors"},
    "spasemsr.upscaling": {"spasemsr", "spasemsr.config", "spasemsr.images", "spasemsr.data", "spasemsr.backends",
                           "spasemsr.diffusion", "spasemsr.methods"},
    "spasemsr.serving": {"spasemsr", "spasemsr.images", "spasemsr.upscaling", "spasemsr.backends.protocols"},
    "spasemsr.__init__": {"spasemsr.upscaling"},  # what users import; no room imports a name from it
    "pipeline.layout": set(),
    "pipeline.code": {"spasemsr"},
    "pipeline.engine": {"spasemsr", "spasemsr.data", "spasemsr.training", "spasemsr.methods", "spasemsr.evaluation",
                        "spasemsr.diffusion.spec", "spasemsr.backends.networks.runtime"},
    "pipeline.stages": {"LIBRARY", "pipeline.layout", "pipeline.code", "pipeline.engine"},
    "pipeline.jobs": {"spasemsr.config", "spasemsr.data", "pipeline.stages"},
    "pipeline.planning": {"LIBRARY", "pipeline.layout", "pipeline.code", "pipeline.engine", "pipeline.jobs",
                          "pipeline.tools.inventory"},
    "pipeline.tools": {"LIBRARY", "pipeline.layout", "pipeline.engine", "pipeline.jobs", "pipeline.planning"},
    "pipeline.commands": {"LIBRARY", "pipeline.engine", "pipeline.stages", "pipeline.planning", "pipeline.tools"},
    "pipeline.cli": {"spasemsr", "pipeline.commands"},
    "pipeline.__main__": {"pipeline.cli"},
    "pipeline": set(),
}  # fmt: skip
# What stages run and `dvc.yaml` does not list, because no byte of an out can change with it, or another place says so.
CHANGES_NO_BYTE = {
    "pipeline/code.py": "names training runs; what it hashes is listed",
    "pipeline/engine": "tests/pipeline/engine shows that columns do not depend on it",
    "pipeline/layout.py": "paths, which dvc.yaml states itself",
    "spasemsr/atomic.py": "writes what it is given, or nothing",
    "spasemsr/backends/identity.py": "an identity is part of every cache key",
    "spasemsr/backends/protocols.py": "types",
    "spasemsr/cache.py": "gives back what was stored, or nothing",
    "spasemsr/config.py": "refuses params; it changes none",
    "spasemsr/config_messages.py": "words of refusals",
    "spasemsr/data/columns.py": "every VERSION is watched by the stage that writes the column",
    "spasemsr/data/job.py": "types",
    "spasemsr/data/member_index.py": "tells where bytes lie that shards.py checks",
    "spasemsr/data/patches.py": "names of what is listed in patches.jsonl, which is a dep",
    "spasemsr/data/remote.py": "brings tars of the sha256 that column.json states, or refuses them",
    "spasemsr/data/shards.py": "gives back what was stored, or refuses it",
    "spasemsr/determinism.py": "threads and switches; goldens of every column and of training fail if bits move",
    "spasemsr/errors.py": "words of refusals",
    "spasemsr/hashing.py": "names results; a change makes all names new",
    "spasemsr/methods/columns.py": "which columns are read; their digests name a training run",
    "spasemsr/methods/face.py": "what a method is asked for; train lists it, for it says how weights are drawn",
    "spasemsr/methods/model_config.py": "refuses descriptions; it changes none",
    "spasemsr/methods/guided_spec.py": "refuses params; it changes none",
    "spasemsr/methods/guided_trace.py": "counts what a step takes, for planning",
    "spasemsr/methods/megasr/features.py": "its VERSION is watched by the stage that writes the column",
    "spasemsr/methods/seesr/features.py": "its VERSION is watched by the stage that writes the column",
    "spasemsr/methods/segsr/features.py": "its VERSION is watched by the stage that writes the column",
    "spasemsr/methods/shown.py": "columns hold what it makes, under VERSIONs; other pictures are no stage's",
    "spasemsr/methods/spasemsr/features.py": "its VERSION is watched by the stage that writes the column",
    "spasemsr/methods/stored.py": "gives back what was stored, or refuses it",
    "spasemsr/mounts.py": "decides how long is waited",
    "spasemsr/progress.py": "what is shown while one waits",
    "spasemsr/spec.py": "refuses params; it changes none",
    "spasemsr/weights": "finds what an identity pins and loads all of it, or refuses",
}
# Versions watched by stages stand for the code of these places too; a golden of each column fails without a new one.
STANDS_FOR = {
    "spasemsr/data/degradation.py": ("spasemsr/data/camera.py", "spasemsr/data/presets.py"),
    "spasemsr/backends/captioner/spec.py": ("spasemsr/backends/networks", "spasemsr/images/quality.py",
                                            "spasemsr/scenes"),
    "spasemsr/backends/grounding/spec.py": ("spasemsr/backends/extractors", "spasemsr/backends/networks",
                                            "spasemsr/randomness.py", "spasemsr/scenes"),
    "spasemsr/backends/restorer/spec.py": ("spasemsr/backends/networks", "spasemsr/images/quality.py"),
    "spasemsr/backends/autoencoder/spec.py": ("spasemsr/backends/networks",),
    "spasemsr/backends/extractors/spec.py": ("spasemsr/backends/networks", "spasemsr/scenes"),
    "spasemsr/students/spec.py": ("pipeline/stages/teach.py", "spasemsr/pixels.py", "spasemsr/randomness.py"),
    **{
        f"spasemsr/methods/{name}/features.py": ("pipeline/stages/features.py", "spasemsr/pixels.py")
        for name in ("megasr", "seesr", "segsr", "spasemsr")
    },
    "spasemsr/data/columns.py": ("spasemsr/pixels.py", "spasemsr/randomness.py", "spasemsr/data/degradation.py",
                                 "spasemsr/data/camera.py", "spasemsr/data/presets.py",
                                 "spasemsr/images", "pipeline/stages"),
}  # fmt: skip


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}
PUBLIC = ROOT / "spasemsr/__init__.py"


@cache
def imports(path: Path) -> frozenset[str]:
    """Our own modules that a file imports, anywhere in it; parents of packages included, as Python runs them too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in names if name in MODULES} or {node.module}
            found.add(node.module)
    ours = {name for name in found if name in MODULES}
    return frozenset(ours)


def layer_of(module: str) -> str:
    """Of a module; `spasemsr` itself stands for the ground floor, whose modules lie in no folder."""
    parts = module.split(".")
    return ".".join(parts[:2]) if len(parts) > 1 and ".".join(parts[:2]) in LAYERS else parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downwards(path):
    layer = "spasemsr.__init__" if path == PUBLIC else layer_of(module_name(path))
    for name in imports(path):
        if layer_of(name) == layer:
            continue
        allowed = LAYERS[layer]
        parts = allowed - LAYERS.keys()  # of a layer, not all of it
        fits = layer_of(name) in allowed or any(f"{name}.".startswith(f"{part}.") for part in parts)
        fits = fits or ("LIBRARY" in allowed and name.split(".")[0] == "spasemsr")
        fits = fits or any(entry.startswith(f"{name}.") for entry in {layer, *allowed})  # a package above it
        fits = fits or ("SPECS" in allowed and (name.endswith(".spec") or MODULES[name].name == "__init__.py"))
        assert fits, f"{module_name(path)} ({layer}) may not import {name}"


def test_what_users_import_is_imported_by_no_file_of_ours():
    """`from spasemsr import errors` names a module; `from spasemsr import Upscaler` would be an arrow upwards."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "spasemsr":
                assert [alias.name for alias in node.names if f"spasemsr.{alias.name}" not in MODULES] == [], path


def test_stages_and_methods_alone_are_found_by_name():
    """Every other import of our own is one that this table sees."""
    users = [path for path in FILES if re.search(r'import_module\(f?"(spasemsr|pipeline)', path.read_text())]
    assert {str(path.relative_to(ROOT)) for path in users} == {
        "pipeline/commands/stages.py", "spasemsr/methods/__init__.py",
    }  # fmt: skip


def test_no_file_imports_itself_through_others():
    """Imports inside functions and under TYPE_CHECKING count: a reader goes round such a circle all the same."""
    graph = {
        name: {other for other in imports(path) if other != name and not name.startswith(f"{other}.")}
        for name, path in MODULES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(reversed(error.args[1]))}")


def test_no_file_is_too_long_to_be_read_at_once():
    files = [
        path for folder in ("spasemsr", "pipeline", "tests", "benchmarks") for path in ROOT.glob(f"{folder}/**/*.py")
    ]
    assert [str(path) for path in files if path.read_text().count("\n") > 350] == []


# In these files "spasemsr" is the name of the package, as a folder, a library and a program.
NAME_THE_PACKAGE = {"spasemsr/cache.py", "spasemsr/images/results.py", "spasemsr/upscaling/hub.py"}
# And here "seesr" is the preset of degradations that the method of this name has made known.
NAME_A_PRESET = {
    "pipeline/commands/scores.py", "pipeline/tools/testset.py", "spasemsr/data/presets.py", "spasemsr/data/spec.py",
}  # fmt: skip
METHODS = {path.parent.name for path in ROOT.glob("spasemsr/methods/*/__init__.py")}


def names_of_methods(path: Path) -> set[str]:
    """Methods that a file imports from, spells in a string of its own, or reads as an attribute."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("spasemsr.methods."):
            found.add(str(node.module).split(".")[2])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value.removeprefix("features/"))
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
    return found & METHODS


def test_a_method_is_named_in_its_own_folder_alone():
    elsewhere = [path for path in FILES if path.parent.name not in METHODS or path.parent.parent.name != "methods"]
    found = {str(path.relative_to(ROOT)) for path in elsewhere if names_of_methods(path)}
    assert found - NAME_THE_PACKAGE - NAME_A_PRESET == set()


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_method_imports_no_sibling(name):
    siblings = tuple(f"spasemsr.methods.{other}" for other in METHODS - {name})
    for path in ROOT.glob(f"spasemsr/methods/{name}/*.py"):
        assert not [module for module in imports(path) if module.startswith(siblings)], path


def test_basicsr_has_one_importer():
    users = [
        str(path.relative_to(ROOT))
        for path in FILES
        if any(
            (getattr(node, "module", "") and str(node.module).split(".")[0] == "basicsr")
            or any(alias.name.split(".")[0] == "basicsr" for alias in getattr(node, "names", []))
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
        )
    ]
    assert users == ["spasemsr/data/degradation.py"]


def stages() -> dict[str, dict]:
    return yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def closure(start: Path) -> set[str]:
    """Files that a stage's code reaches; what is excepted is not followed, nor specs, which refuse params only."""
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        name = str(path.relative_to(ROOT))
        if path in seen or path == PUBLIC or path.name == "spec.py" or below(name, CHANGES_NO_BYTE):
            continue
        seen.add(path)
        waiting += [MODULES[name] for name in imports(path)]
    return {str(path.relative_to(ROOT)) for path in seen if path.name != "__init__.py"}


def below(path: str, places: Iterable[str]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in places)


# What the stages of one method reach of its folder.
BY_NAME = {"train": "face.py", "evaluate": "face.py", "dial": "face.py", "audit": "face.py"}


@pytest.mark.parametrize("name", stages())
def test_a_stage_watches_what_it_runs(name):
    stage = stages()[name]
    methods, used = (sorted(METHODS) if "matrix" in stage else ["spasemsr"]), set()
    for method in methods:
        code = {dep.replace("${item.method}", method) for dep in stage["deps"]}
        code = {dep for dep in code if dep.startswith(("spasemsr/", "pipeline/"))}
        params = [item for item in stage.get("params", []) if isinstance(item, dict)]
        versions = {file.replace("${item.method}", method): names for item in params for file, names in item.items()}
        for file, names in versions.items():
            for found in names:
                module, (first, *rest) = (ROOT / file).read_text(), found.replace("${item.method}", method).split(".")
                assert re.search(rf"^{first} = ", module, re.M), f"{file} has no {first}"
                assert all(f'"{key}": ' in module for key in rest), f"{file}: {found}"
        roles = {str(Path(file).parent) for file in versions if file.endswith("/spec.py")}
        stands = {place for file in versions for place in STANDS_FOR.get(file, ())}
        reached = closure(ROOT / "pipeline/stages" / f"{name}.py")
        if name in BY_NAME:  # the one import by name, which no parser sees
            reached |= closure(ROOT / "spasemsr/methods" / method / BY_NAME[name])
        watched = code | set(versions) | roles | stands
        unwatched = {path for path in reached if not below(path, watched)}
        assert unwatched == set(), f"{method}: neither listed, versioned nor excepted"
        for dep in code:
            assert (ROOT / dep).exists(), f"{dep} does not exist"
            data = (ROOT / dep).is_file() and not dep.endswith(".py")
            if data or dep in CHANGES_NO_BYTE or any(below(path, [dep]) for path in reached):
                used.add(dep.replace(f"methods/{method}", "methods/${item.method}"))
    listed = {dep for dep in stage["deps"] if dep.startswith(("spasemsr/", "pipeline/"))}
    assert listed - used == set(), "listed but not used by any method"


def test_exceptions_exist():
    for place in [*CHANGES_NO_BYTE, *STANDS_FOR, *(place for places in STANDS_FOR.values() for place in places)]:
        assert (ROOT / place).exists(), place


def test_a_training_run_is_named_by_the_code_that_can_change_it(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.code.ROOT", tmp_path)
    for part in ("pipeline", "spasemsr"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    before = code_digest("train", "spasemsr")
    for name in ("spasemsr/weights/registry.py", "pipeline/engine/build.py", "spasemsr/methods/seesr/network.py"):
        edit(tmp_path / name)
        assert code_digest("train", "spasemsr") == before, name
    for name in ("spasemsr/training/loop.py", "spasemsr/diffusion/guided.py", "spasemsr/methods/spasemsr/network.py"):
        edit(tmp_path / name)
        assert code_digest("train", "spasemsr") != before, name
        before = code_digest("train", "spasemsr")


def edit(path: Path) -> None:
    path.write_text(path.read_text() + "# an edit\n")


@pytest.mark.parametrize("name", stages())
def test_no_stage_imports_a_stage(name):
    other = {f"pipeline.stages.{stage}" for stage in stages()} - {f"pipeline.stages.{name}"}
    assert not imports(ROOT / "pipeline/stages" / f"{name}.py") & other


def test_help_needs_no_heavy_import():
    code = (
        "import sys, pipeline.cli; "
        "print(sorted({'torch', 'numpy', 'cv2', 'diffusers', 'transformers', 'pydantic'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"

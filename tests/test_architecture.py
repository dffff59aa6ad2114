"""Who may import whom, and that `dvc.yaml` lists the code each stage runs."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

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
    "spasemsr.training": {"spasemsr", "spasemsr.weights", "spasemsr.methods", "spasemsr.data"},
    "spasemsr.evaluation": {"spasemsr", "spasemsr.images", "spasemsr.diffusion.spec", "spasemsr.methods",
                            "spasemsr.data", "spasemsr.scenes"},
    "spasemsr.config": {"spasemsr", "SPECS"},
    "spasemsr.report": {"spasemsr", "spasemsr.images", "spasemsr.evaluation"},
    "spasemsr.upscaling": {"spasemsr", "spasemsr.config", "spasemsr.images", "spasemsr.data", "spasemsr.backends",
                           "spasemsr.diffusion", "spasemsr.methods"},
    "spasemsr.serving": {"spasemsr", "spasemsr.images", "spasemsr.upscaling", "spasemsr.backends.protocols"},
    "pipeline": {"spasemsr", "spasemsr.config", "spasemsr.images", "spasemsr.data", "spasemsr.weights",
                 "spasemsr.backends", "spasemsr.diffusion", "spasemsr.methods", "spasemsr.training",
                 "spasemsr.evaluation", "spasemsr.report", "spasemsr.upscaling", "spasemsr.serving"},
}  # fmt: skip
# Parsing arguments and printing help changes no byte of an output, so editing these re-runs nothing.
NOT_A_DEP = {"pipeline/cli.py", "pipeline/__main__.py"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


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
    parts = module.split(".")
    return ".".join(parts[:2]) if len(parts) > 1 and ".".join(parts[:2]) in LAYERS else parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downwards(path):
    layer = layer_of(module_name(path))
    for name in imports(path):
        if layer_of(name) == layer:
            continue
        allowed = LAYERS[layer]
        fits = layer_of(name) in allowed or any(name == entry or name.startswith(entry + ".") for entry in allowed)
        fits = fits or ("SPECS" in allowed and (name.endswith(".spec") or MODULES[name].name == "__init__.py"))
        assert fits, f"{module_name(path)} ({layer}) may not import {name}"


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
    """Files a stage's code reaches, as `dvc.yaml` would name them; empty package files say nothing and are left out."""
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        waiting += [MODULES[name] for name in imports(path)]
    return {str(path.relative_to(ROOT)) for path in seen if path.name != "__init__.py"} - NOT_A_DEP


@pytest.mark.parametrize("name", stages())
def test_code_deps_are_the_import_closure(name):
    deps = {dep.replace("${item.method}", "spasemsr") for dep in stages()[name]["deps"]}
    listed = {dep for dep in deps if dep.endswith(".py")}
    folders = tuple(dep + "/" for dep in deps if dep.startswith(("spasemsr", "pipeline")) and not dep.endswith(".py"))
    reached = closure(ROOT / "pipeline/stages" / f"{name}.py")
    assert {path for path in reached - listed if not path.startswith(folders or ("-",))} == set(), "not listed"
    assert listed - reached == set(), "listed but not used"


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

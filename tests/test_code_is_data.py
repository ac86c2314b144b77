"""Nothing that is read is run: no pickles, no checkpoint loaders, no imports by a name that somebody sent."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers import problems

ROOT = Path(__file__).parent.parent
FILES = sorted(
    file for folder in ("app", "workers", "unlearning", "embedded", "expunge") for file in (ROOT / folder).rglob("*.py")
)
RESTRICTED = ROOT / "unlearning/data/array_pickle.py"
"""The one reader of pickles, of published data sets: it runs nothing of what it reads (tests/unlearning/test_data_cifar.py)."""
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "runpy", "code", "pickletools"}
CALLS = {
    "torch.load", "torch.jit.load", "torch.hub.load", "torch.export.load", "torch.package.PackageImporter",
    "yaml.load", "yaml.unsafe_load", "os.system", "os.popen", "importlib.import_module", "import_module",
    "eval", "exec", "compile", "__import__", "pd.read_pickle",
}  # fmt: skip


def name_of(node: ast.expr) -> str:
    """`a.b.c` of a dotted name; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        front = name_of(node.value)
        return f"{front}.{node.attr}" if front else ""
    return ""


def faults(text: str) -> Iterator[str]:
    """What of a file could turn bytes into running code."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES)
        if isinstance(node, ast.ImportFrom):
            if (node.module or "").partition(".")[0] in MODULES:
                yield str(node.module)
            yield from (f"{node.module}.{a.name}" for a in node.names if f"{node.module}.{a.name}" in CALLS)
        if isinstance(node, ast.Call):
            called, given = name_of(node.func), {k.arg: k.value for k in node.keywords}
            if called in CALLS:
                yield called
            refuses = (
                isinstance(given.get("allow_pickle"), ast.Constant) and ast.literal_eval(given["allow_pickle"]) is False
            )
            if called in {"np.load", "numpy.load"} and not refuses:
                yield called
            if "shell" in given and ast.unparse(given["shell"]) != "False":
                yield f"{called}(shell)"


@pytest.mark.parametrize(
    "planted",
    [
        "import pickle", "from dill import loads", "import torch\ntorch.load('x')", "from torch import load",
        "import numpy as np\nnp.load('x')", "np.load('x', allow_pickle=True)", "eval('1')", "yaml.load(x, Loader)",
        "import importlib\nimportlib.import_module(name)", "subprocess.run('ls', shell=True)",
    ],
)  # fmt: skip
def test_what_is_planted_is_found(planted: str) -> None:
    assert list(faults(planted))


def test_no_file_turns_bytes_into_running_code() -> None:
    found = {str(file.relative_to(ROOT)): list(faults(file.read_text())) for file in FILES}
    assert len(found) > 100
    assert {file: what for file, what in found.items() if what} == {str(RESTRICTED.relative_to(ROOT)): ["pickle"]}


def test_weights_are_read_as_safetensors_alone() -> None:
    """Wherever stored bytes become tensors, it is by safetensors' reader."""
    text = (ROOT / "workers/artifacts.py").read_text()
    imported = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    assert [(node.module, [a.name for a in node.names]) for node in imported if "load" in ast.unparse(node)] == [
        ("safetensors.torch", ["load", "save"])
    ]


@pytest.mark.parametrize(
    "name", ["os:system", "os.path:join", "../../tmp/evil.py", "/tmp/evil", "digits:x", "digits ", "", "DIGITS", "a\0b"]
)
def test_a_name_leads_to_an_installed_entry_point_or_nowhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for asked in (name, "evil", "evil:problem"):
        with pytest.raises(problems.Refused, match="is installed with this worker"):
            problems.load(asked)

"""The plan of the house, kept as tests: who may import whom, who knows Ray, how large things grow.

Each rule is a function from one parsed file to its violations; a violation says file, line, what,
and what to do. The rules read text only, so all of them together take a few seconds. The lists at
the top are the policy.
"""

import ast
import functools
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent

# Data flows down this list; imports point only up it.
ORDER = (
    "contracts",
    "sections",
    "config",
    "telemetry",
    "background",
    "priority",
    "ingress",
    "session",
    "security",
    "ledger",
    "data",
    "model",
    "registry",
    "training",
    "serving",
    "monitoring",
    "loop",
    "governance",
    "console",
    "jobs",
)
# The shells: the only files that may import ray. Jobs reach it through app/session.py.
RAY_FILES = frozenset(
    {
        "app/session.py",
        "app/data/sources.py",
        "app/data/encoding.py",
        "app/data/preprocess.py",
        "app/data/history.py",
        "app/training/blocks.py",
        "app/training/loop.py",
        "app/training/room.py",
        "app/training/searching.py",
        "app/training/train.py",
        "app/training/trying.py",
        "app/training/tune.py",
        "app/serving/application.py",
        "app/serving/straight.py",
        "app/serving/batch.py",
        "app/monitoring/monitor.py",
        "app/loop/ports.py",
        "app/loop/steward.py",
        "benchmarks/serving/replicas.py",
        "benchmarks/serving/with_serve.py",
        "benchmarks/training/workers.py",
    }
)
# Cores get the time as a parameter. These files and the shells above may ask the machine for it.
CLOCK_FILES = RAY_FILES
CLOCKS = frozenset(
    {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.time_ns"}
)
# The demonstration only advances the clock, sends rows and labels, and reads status.
DEMO_FILE = "jobs/loop.py"
DEMO_BANS = ("app.monitoring", "app.loop", "app.training", "app.registry")
NO_NAMES = frozenset({"base", "common", "helpers", "manager", "misc", "utils"})
PICKLES = frozenset({"cloudpickle", "dill", "joblib", "pickle"})
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 40
MAX_DEPTH = 3
FOLDERS = ("app", "jobs", "benchmarks")
PUBLISHED = ("app", "jobs", "benchmarks", "tests", "configs", "cluster", "docs", "notebooks", ".ci")

NESTING = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match, ast.AsyncFor, ast.AsyncWith)
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Source(NamedTuple):
    """One file of the project, parsed."""

    path: str
    text: str
    tree: ast.Module


class Violation(NamedTuple):
    """One broken rule."""

    path: str
    line: int
    what: str
    do: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}; {self.do}"


Rule = Callable[[Source], Iterator[Violation]]


def parse(path: str, text: str) -> Source:
    return Source(path, text, ast.parse(text, path))


@functools.cache
def sources(*folders: str) -> list[Source]:
    files = [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]
    return [parse(file.relative_to(ROOT).as_posix(), file.read_text()) for file in files]


def imports(source: Source) -> Iterator[tuple[int, str]]:
    """Yield the line and the dotted name of everything that a file imports, in functions too."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def functions(source: Source) -> Iterator[Function]:
    return (node for node in ast.walk(source.tree) if isinstance(node, Function))


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def layer(dotted: str) -> str | None:
    """Name the layer of a module of ours; the package `app` itself has none."""
    parts = dotted.split(".")
    if parts[0] == "jobs":
        return "jobs"
    return parts[1] if parts[0] == "app" and len(parts) > 1 else None


def direction(source: Source) -> Iterator[Violation]:
    own = layer(source.path.removesuffix(".py").replace("/", "."))
    if own in (None, "__init__", "jobs"):
        return
    if own not in ORDER:
        yield Violation(source.path, 1, f"app/{own} has no place in the order", "add it to ORDER")
        return
    for line, name in imports(source):
        other = layer(name)
        if other == "session" and source.path not in RAY_FILES:
            do = "only shells (RAY_FILES) and jobs join a cluster: take the result as a parameter"
            yield Violation(source.path, line, "imports app.session", do)
        elif other in ORDER and ORDER.index(other) > ORDER.index(own):
            what = f"{own} imports {name}, which stands below it"
            yield Violation(source.path, line, what, f"move the shared part to {own} or above")


def ray_in_shells(source: Source) -> Iterator[Violation]:
    for line, name in imports(source):
        if within(name, "ray") and source.path not in RAY_FILES:
            do = "move the call to a shell named in RAY_FILES and keep a plain core here"
            yield Violation(source.path, line, f"imports {name}", do)


def demo_only_looks(source: Source) -> Iterator[Violation]:
    if source.path != DEMO_FILE:
        return
    for line, name in imports(source):
        if any(within(name, ban) for ban in DEMO_BANS):
            do = "let it send requests and read status; the actors do the rest"
            yield Violation(source.path, line, f"imports {name}", do)


def no_pickle(source: Source) -> Iterator[Violation]:
    for line, name in imports(source):
        if name.split(".")[0] in PICKLES:
            yield Violation(source.path, line, f"imports {name}", "use JSON, safetensors or Arrow")


def plain_annotations(source: Source) -> Iterator[Violation]:
    for line, name in imports(source):
        if name == "__future__.annotations":
            do = "remove it: Serve and pydantic read annotations at run time"
            yield Violation(source.path, line, "postpones annotations", do)


def clock_has_one_owner(source: Source) -> Iterator[Violation]:
    if source.path in CLOCK_FILES or not source.path.startswith("app/"):
        return
    for node in ast.walk(source.tree):
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if ".".join(called.split(".")[-2:]) in CLOCKS:
            yield Violation(
                source.path, node.lineno, f"calls {called}", "take the time as a parameter"
            )


def file_size(source: Source) -> Iterator[Violation]:
    num_lines = source.text.count("\n")
    if num_lines > MAX_FILE_LINES:
        what = f"{num_lines} lines, at most {MAX_FILE_LINES}"
        yield Violation(source.path, MAX_FILE_LINES, what, "split it along a noun")


def function_size(source: Source) -> Iterator[Violation]:
    for function in functions(source):
        # A docstring is no burden: an example in it is worth its lines.
        start = function.body[0].end_lineno if ast.get_docstring(function) else function.lineno
        num_lines = (function.end_lineno or 0) - (start or 0)
        if num_lines > MAX_FUNCTION_LINES:
            what = f"{function.name} has {num_lines} lines, at most {MAX_FUNCTION_LINES}"
            yield Violation(source.path, function.lineno, what, "name its steps as functions")


def depth(node: ast.AST, level: int = 0) -> int:
    """Count how deep control flow nests: `elif` stays level with `if`, a function starts anew."""
    deepest = level
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, Function | ast.ClassDef):
                continue
            chained = isinstance(node, ast.If) and field == "orelse" and isinstance(child, ast.If)
            deeper = level + (isinstance(child, NESTING) and not (chained and len(value) == 1))
            deepest = max(deepest, depth(child, deeper))
    return deepest


def function_depth(source: Source) -> Iterator[Violation]:
    for function in functions(source):
        found = depth(function)
        if found > MAX_DEPTH:
            what = f"{function.name} nests {found} deep, at most {MAX_DEPTH}"
            yield Violation(source.path, function.lineno, what, "use guard clauses or a function")


def telling_names(source: Source) -> Iterator[Violation]:
    for part in Path(source.path).with_suffix("").parts:
        if NO_NAMES & set(part.split("_")):
            do = "name it by the noun that it is about"
            yield Violation(source.path, 1, f"{part} says nothing", do)


def described(source: Source) -> Iterator[Violation]:
    if not ast.get_docstring(source.tree):
        yield Violation(source.path, 1, "has no docstring", "say what it does and does not know")
    scopes: list[tuple[str, ast.Module | ast.ClassDef]] = [("", source.tree)]
    while scopes:
        prefix, scope = scopes.pop()
        for node in scope.body:
            if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
                continue
            if not ast.get_docstring(node):
                what = f"{prefix}{node.name} has no docstring"
                yield Violation(source.path, node.lineno, what, "add one imperative sentence")
            if isinstance(node, ast.ClassDef):
                scopes.append((f"{prefix}{node.name}.", node))


def finished(source: Source) -> Iterator[Violation]:
    for number, line in enumerate(source.text.splitlines(), 1):
        if re.search(r"#.*\b(TO(?:DO)|FIX(?:ME)|XX(?:X)|HA(?:CK))\b", line):
            yield Violation(source.path, number, "a note to do it later", "do it or file an issue")
    for node in ast.walk(source.tree):
        name = node.id if isinstance(node, ast.Name) else ""
        if name == "NotImplementedError":
            yield Violation(source.path, node.lineno, "a stub", "write it or leave it out")
        if isinstance(node, ast.ExceptHandler) and swallows(node):
            do = "name the error and say why, with contextlib.suppress, or let it rise"
            yield Violation(source.path, node.lineno, "an error is swallowed", do)


def swallows(handler: ast.ExceptHandler) -> bool:
    broad = handler.type is None or ast.unparse(handler.type) in ("Exception", "BaseException")
    return broad and all(isinstance(node, ast.Pass) for node in handler.body)


RULES: tuple[Rule, ...] = (
    direction,
    ray_in_shells,
    demo_only_looks,
    no_pickle,
    plain_annotations,
    clock_has_one_owner,
    file_size,
    function_size,
    function_depth,
    telling_names,
    described,
    finished,
)


def report(violations: list[Violation]) -> str:
    return "\n" + "\n".join(str(violation) for violation in violations)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_rule(rule: Rule) -> None:
    found = [violation for source in sources(*FOLDERS) for violation in rule(source)]
    assert not found, report(found)


@pytest.mark.parametrize("rule", [no_pickle, plain_annotations, telling_names, finished])
def test_the_tests_keep_it_too(rule: Rule) -> None:
    found = [violation for source in sources("tests") for violation in rule(source)]
    assert not found, report(found)


BROKEN = {
    direction: ("app/data/tables.py", "def f():\n    from app.registry import store\n"),
    ray_in_shells: ("app/data/features.py", "import ray.data\n"),
    demo_only_looks: ("jobs/loop.py", "from app import monitoring\n"),
    no_pickle: ("app/data/tables.py", "from joblib import dump\n"),
    plain_annotations: ("app/data/tables.py", "from __future__ import annotations\n"),
    clock_has_one_owner: ("app/loop/policy.py", "def f():\n    return dt.datetime.now()\n"),
    file_size: ("app/data/tables.py", "x = 1\n" * (MAX_FILE_LINES + 1)),
    function_size: ("app/data/tables.py", "def f():\n" + "    x = 1\n" * (MAX_FUNCTION_LINES + 1)),
    function_depth: (
        "app/data/tables.py",
        "def f():\n if a:\n  for b in c:\n   with d:\n    while e: pass\n",
    ),
    telling_names: ("app/data/file_utils.py", ""),
    described: (
        "app/data/tables.py",
        '"""Tables."""\nclass Table:\n    """It."""\n    def f(self): 1\n',
    ),
    finished: ("app/data/tables.py", "try:\n    x()\nexcept Exception:\n    pass\n"),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_each_rule_finds_what_breaks_it_and_says_what_to_do(rule: Rule) -> None:
    path, text = BROKEN[rule]
    (violation,) = rule(parse(path, text))
    assert re.fullmatch(rf"{re.escape(path)}:\d+: .+; .+", str(violation))


def test_an_elif_is_no_deeper_than_its_if() -> None:
    chain = "def f():\n" + " if a: x\n" + " elif b: x\n" * 5 + " else:\n  if c: x\n"
    assert depth(ast.parse(chain).body[0]) == 1
    assert depth(ast.parse("def f():\n if a: x\n else:\n  if b: x\n  y()\n").body[0]) == 2


def test_imports_up_the_list_and_beside_are_allowed() -> None:
    text = "from app.data.tables import Tables\nfrom app.contracts import rows\nimport app.config\n"
    assert not list(direction(parse("app/data/snapshots.py", text)))


def test_the_list_of_shells_names_files_that_exist_and_use_ray() -> None:
    every = sources("app", "benchmarks")
    using = {s.path for s in every if any(within(n, "ray") for _, n in imports(s))}
    session_users = {
        s.path for s in sources("app") if any(within(n, "app.session") for _, n in imports(s))
    }
    idle = sorted(RAY_FILES - using - session_users)
    assert not idle, (
        f"tests/test_architecture.py: RAY_FILES names {idle}; remove them, they need no Ray"
    )


def test_every_package_says_what_it_holds() -> None:
    folders = {file.parent for file in (ROOT / "app").rglob("*.py")} | {ROOT / "jobs"}
    missing = [f.relative_to(ROOT).as_posix() for f in folders if not (f / "__init__.py").is_file()]
    assert not missing, f"no __init__.py in {missing}; add one with a docstring"


def test_the_map_names_every_stage() -> None:
    described_stages = (ROOT / "app" / "__init__.py").read_text()
    stages = {folder.parent.name for folder in (ROOT / "app").glob("*/*.py")}
    assert not {stage for stage in stages if f"    {stage} " not in described_stages}


def test_what_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    optional = [line for name, lines in extras.items() if name != "dev" for line in lines]
    declared = {
        canonicalize_name(Requirement(line).name) for line in [*project["dependencies"], *optional]
    }
    owners = importlib.metadata.packages_distributions()
    found = []
    for source in sources("app", "jobs"):
        for line, name in imports(source):
            top = name.split(".")[0]
            if top in sys.stdlib_module_names or top in ("app", "jobs", "__future__"):
                continue
            if not declared & {canonicalize_name(owner) for owner in owners.get(top, [])}:
                do = "add it to dependencies in pyproject.toml, or do without"
                found.append(Violation(source.path, line, f"imports {top}, undeclared", do))
    assert not found, report(found)


def test_every_module_is_imported_where_no_extra_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    optional = {
        canonicalize_name(Requirement(line).name)
        for name, lines in extras.items()
        if name != "dev"
        for line in lines
    }
    owners = importlib.metadata.packages_distributions()
    absent = [
        top
        for top, names in owners.items()
        if optional & {canonicalize_name(name) for name in names}
    ]
    assert "xgboost" in absent
    modules = [
        source.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for source in sources("app", "jobs")
    ]
    # A module that is None cannot be imported, by whoever asks for it.
    lines = [f"sys.modules[{name!r}] = None" for name in absent]
    program = "\n".join(["import importlib, sys", *lines, f"for name in {modules!r}:"])
    program += "\n    importlib.import_module(name)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_every_dependency_is_pinned_and_installed_as_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    pinned = {canonicalize_name(pin.name): pin for pin in pins}
    assert len(pinned) == len(pins), "constraints.txt: a package is pinned twice"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + project["optional-dependencies"]["dev"]
    for requirement in map(Requirement, asked):
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"constraints.txt: {name} is not pinned; add the tested version"
        version = importlib.metadata.version(name)
        assert pinned[name].specifier.contains(version), f"{name} {version} is not {pinned[name]}"
        assert requirement.specifier.contains(version), f"{name} {version} is not {requirement}"


def test_no_path_of_one_machine_is_published() -> None:
    # Folders of a person's machine. The user of Ray's container images is called ray.
    machine = re.compile(r"(?<![\w.}-])/(?:home(?!/ray)|Users|root|work|workspace)/[\w.]")
    files = [f for folder in PUBLISHED for f in (ROOT / folder).rglob("*") if f.is_file()]
    files += [f for f in ROOT.iterdir() if f.is_file()]
    found = []
    for file in files:
        if "__pycache__" in file.parts or file.suffix in (".parquet", ".png", ".pyc"):
            continue
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
            if machine.search(line):
                path = file.relative_to(ROOT).as_posix()
                what = "names a folder of one machine"
                found.append(Violation(path, number, what, "make it relative"))
    assert not found, report(found)

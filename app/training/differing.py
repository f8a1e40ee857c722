"""Name what two runs do not share: circumstances and settings, with both values and the effect.

Knows records and configurations; knows nothing of where they were read or what came of them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from app.config import Config
from app.contracts.circumstances import Circumstances, Difference, Effect, Surroundings
from app.sections.training import WHERE
from app.training.assembly import SECTIONS

ABSENT = "absent"
# Settings that decide how a run is carried out, and those that decide nothing of its result.
HOW = frozenset({"training.threads_per_worker", "training.use_gpu", "training.deterministic"})
IDLE = frozenset(
    {"training.experiment", "training.repeat_tolerance", "training.cpus_per_worker"}
    | {f"training.{name}" for name in WHERE}
)
# Of a process: facts that a result does not depend on when the others agree.
IDLE_FACTS = frozenset(
    {"software.installed", "machine.cores", "environment.OMP_WAIT_POLICY", "machine.gpu_driver"}
)


def configuration_differences(first: Config, second: Config) -> tuple[Difference, ...]:
    """Compare all that decides what a model is made of, key by key."""
    flat = [
        dict(_flatten({name: config.model_dump(mode="json")[name] for name in SECTIONS}))
        for config in (first, second)
    ]
    return tuple(
        Difference(name=name, first=a, second=b, effect=_effect_of_setting(name))
        for name, a, b in _unequal(*flat)
    )


def _effect_of_setting(name: str) -> Effect:
    if name in IDLE:
        return "none"
    return "bits" if name in HOW else "model"


def circumstance_differences(first: Circumstances, second: Circumstances) -> list[Difference]:
    """Compare code, and process by process what they ran in; what all of them share is said once.

    Of a rank that moved to another machine during its run, the last place counts, and that it moved
    is a difference by itself.
    """
    found = _code_differences(first, second)
    processes = [_processes(each) for each in (first, second)]
    by_fact: dict[tuple[str, str, str], list[str]] = {}
    for place in (place for place in processes[0] if place in processes[1]):
        for fact in _unequal(processes[0][place], processes[1][place]):
            by_fact.setdefault(fact, []).append(place)
    num_places = len(set(processes[0]) & set(processes[1]))
    for (name, a, b), places in by_fact.items():
        where = "" if len(places) == num_places else f" ({', '.join(places)})"
        effect: Effect = "none" if name in IDLE_FACTS else "bits"
        found.append(Difference(name=f"{name}{where}", first=a, second=b, effect=effect))
    moves = [_moves(each) for each in (first, second)]
    if moves[0] != moves[1]:
        found.append(_difference("workers that moved during the run", moves[0], moves[1], "bits"))
    sizes = [len({worker.rank for worker in each.workers}) for each in (first, second)]
    if sizes[0] != sizes[1] and all(sizes):
        found.append(_difference("workers", sizes[0], sizes[1], "model"))
    return found


def differences_here(recorded: Circumstances, here: Circumstances) -> list[Difference]:
    """Compare what a run was made under with this code and this machine, before anything runs.

    Settings of a process are left out: whoever looks is not the one that trains.
    """
    found = _code_differences(recorded, here)
    now = _of_process(here.driver, settings=False)
    seen: dict[tuple[str, str, str], None] = {}
    for process in (recorded.driver, *recorded.workers):
        then = _of_process(process, settings=False)
        if process.software.installed is None:
            then["software.installed"] = now["software.installed"]
        seen |= dict.fromkeys(_unequal(then, now))
    for name, a, b in seen:
        effect: Effect = "none" if name in IDLE_FACTS else "bits"
        found.append(Difference(name=name, first=a, second=b, effect=effect))
    return found


def _code_differences(first: Circumstances, second: Circumstances) -> list[Difference]:
    """The digest of the sources is the truth: a commit that left them alone changes nothing."""
    flat = [dict(_flatten(each.code.model_dump(mode="json"), "code")) for each in (first, second)]
    return [
        _difference(name, a, b, "model" if name == "code.version" else "none")
        for name, a, b in _unequal(*flat)
    ]


def _processes(circumstances: Circumstances) -> dict[str, dict[str, str]]:
    """Give the facts of each process by its name."""
    found = {"where the run began": _of_process(circumstances.driver)}
    for worker in circumstances.workers:
        found[f"worker {worker.rank}"] = _of_process(worker)
    return found


def _of_process(process: Surroundings, *, settings: bool = True) -> dict[str, str]:
    left_out = {"rank"} if settings else {"rank", "arithmetic"}
    flat = dict(_flatten(process.model_dump(mode="json", exclude=left_out)))
    short = {name.removeprefix("arithmetic."): value for name, value in flat.items()}
    return {name.removeprefix("software.packages."): value for name, value in short.items()}


def _moves(circumstances: Circumstances) -> int:
    ranks = [worker.rank for worker in circumstances.workers]
    return len(ranks) - len(set(ranks))


def _difference(name: str, first: object, second: object, effect: Effect) -> Difference:
    return Difference(name=name, first=str(first), second=str(second), effect=effect)


def _unequal(first: Mapping[str, str], second: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for name in dict.fromkeys((*first, *second)):
        a, b = first.get(name, ABSENT), second.get(name, ABSENT)
        if a != b:
            yield name, a, b


def _flatten(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Give every leaf by its dotted name; items of a list that have a name are called by it."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        for number, inner in enumerate(value):
            yield from _flatten(inner, f"{place}.{inner.get('name', number)}")
    elif isinstance(value, list):
        yield place, ", ".join(map(str, value)) or ABSENT
    else:
        yield place, ABSENT if value is None else str(value)

"""The search for better settings: which dials may move, how far, and what the search may cost.

Knows names, bounds and units, also those of the dials that it moves; knows nothing of files, or of
the parts that read them.
"""

import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError, model_validator

from app.contracts.rows import Frozen
from app.sections.data import FeaturesConfig
from app.sections.training import WHERE, TrainingConfig

Scalar = bool | int | float | str
Kind = Literal["uniform", "log_uniform", "integer", "log_integer", "choice"]
SECTIONS: dict[str, type[BaseModel]] = {"training": TrainingConfig, "features": FeaturesConfig}
JUDGES = "it decides by which rows or which rule a trial is judged, and the same must judge all"
COSTS = "it decides how a model is trained or shown, not what it is made of"
FIXED = {
    "training.split": JUDGES,
    "training.seed": JUDGES,
    "training.window_days": JUDGES,
    "training.refit": JUDGES,
    "training.calibration": JUDGES,
    "training.min_epochs": JUDGES,
    "training.stop_tolerance": JUDGES,
    "training.experiment": COSTS,
    "training.num_workers": COSTS,
    "training.max_workers": COSTS,
    "training.max_failures": COSTS,
    "training.cpus_per_worker": COSTS,
    "training.threads_per_worker": COSTS,
    "training.use_gpu": COSTS,
    "training.deterministic": COSTS,
    "training.repeat_tolerance": COSTS,
    **{f"training.{name}": COSTS for name in sorted(WHERE)},
}


def _absent(value: object) -> bool:
    return value is None


class Dimension(Frozen):
    """The values that one setting may take; exactly one of the kinds is given."""

    uniform: tuple[float, float] | None = Field(None, exclude_if=_absent)
    log_uniform: tuple[float, float] | None = Field(
        None, exclude_if=_absent, description="Each power of ten as likely as the next."
    )
    integer: tuple[int, int] | None = Field(
        None, exclude_if=_absent, description="Whole numbers, both ends among them."
    )
    log_integer: tuple[int, int] | None = Field(None, exclude_if=_absent)
    choice: tuple[Scalar, ...] | None = Field(None, exclude_if=_absent)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            kinds = ", ".join(type(self).model_fields)
            raise ValueError(f"give one of {kinds}, got {', '.join(given) or 'none'}")
        if self.choice is not None:
            if len(set(self.choice)) < max(len(self.choice), 2):
                raise ValueError(f"choice needs two different values or more, got {self.values}")
            return self
        low, high = self.values
        if not low < high:
            raise ValueError(f"{self.kind}: the first bound must be below the second, got {low}")
        if self.is_log and not low > 0:
            raise ValueError(f"{self.kind}: bounds must be above 0, got {low}; use another kind")
        return self

    @property
    def kind(self) -> Kind:
        """Which kind was given."""
        kinds: tuple[Kind, ...] = get_args(Kind)
        return next(kind for kind in kinds if getattr(self, kind) is not None)

    @property
    def values(self) -> tuple[Any, ...]:
        """The two bounds, or the choices."""
        values: tuple[Any, ...] = getattr(self, self.kind)
        return values

    @property
    def is_log(self) -> bool:
        """Whether values are drawn, and best shown, on a logarithmic scale."""
        return self.kind.startswith("log_")

    def holds(self, value: object) -> bool:
        """Tell whether a value is one of those that may be taken.

        >>> Dimension(integer=(1, 4)).holds(4), Dimension(choice=("a", "b")).holds("c")
        (True, False)
        """
        if self.choice is not None:
            return value in self.choice
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        low, high = self.values
        return bool(low <= value <= high)


class AshaConfig(Frozen):
    """When a trial that lags behind is stopped: asynchronous successive halving.

    Source: Li et al., A system for massively parallel hyperparameter tuning (2020).
    """

    grace_epochs: int = Field(2, ge=1, description="No trial is stopped before so many epochs.")
    reduction_factor: float = Field(
        3.0, gt=1, le=10, description="About one of so many goes on from each rung to the next."
    )


class TuningConfig(Frozen):
    """One search; it moves settings of training and features within bounds."""

    space: dict[str, Dimension] = Field(
        default_factory=dict,
        description="From a dotted key, training.learning_rate, to its values.",
    )
    metric: Literal["stop_loss"] = Field(
        "stop_loss", description="What early stopping judges by, on the rows that stop."
    )
    num_trials: int = Field(20, ge=1, description="Trials of the whole search, over all sessions.")
    max_minutes: float | None = Field(
        None,
        gt=0,
        description="Minutes that the search works, over all sessions; absent: no limit.",
    )
    max_concurrent: int = Field(
        2, ge=1, description="Trials at a time; fewer where the cluster's CPUs hold fewer."
    )
    asha: AshaConfig | None = AshaConfig()
    seed: int = Field(7, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _dotted_keys(cls, data: Any) -> Any:
        """Read sections within sections as dotted keys, and choices as their settings would."""
        if not isinstance(data, Mapping) or not isinstance(data.get("space"), Mapping):
            return data
        return {**data, "space": {key: _read(key, d) for key, d in _flat(data["space"])}}

    @model_validator(mode="after")
    def _within_the_settings(self) -> Self:
        problems = [
            problem
            for key, dimension in self.space.items()
            if (problem := _problem(key, dimension)) is not None
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return self


def setting(model: BaseModel, dotted: str) -> Any:
    """Read the setting of a dotted key below a section or a whole configuration."""
    value: Any = model
    for part in dotted.split("."):
        value = getattr(value, part)
    return value


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Write dotted keys as sections within sections.

    >>> nested({"training.network.hidden": 8, "training.epochs": 2})
    {'training': {'network': {'hidden': 8}, 'epochs': 2}}
    """
    document: dict[str, Any] = {}
    for dotted, value in values.items():
        *sections, name = dotted.split(".")
        target = document
        for section in sections:
            target = target.setdefault(section, {})
        target[name] = value
    return document


def _flat(space: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give each dimension with its dotted key; `--set tuning.space.a.b=` nests it."""
    for key, value in space.items():
        sections = isinstance(value, Mapping) and bool(value)
        if sections and all(isinstance(inner, Mapping) for inner in value.values()):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _read(key: str, dimension: Any) -> Any:
    """Take the choices of a setting as the setting itself does: 1e-3 in YAML is a text."""
    if not isinstance(dimension, Mapping) or not isinstance(dimension.get("choice"), list | tuple):
        return dimension
    if _annotation(key) is None:
        return dimension
    # What the setting refuses stays as it was written: that is told later.
    return {**dimension, "choice": [_taken(key, value)[0] for value in dimension["choice"]]}


def _problem(key: str, dimension: Dimension) -> str | None:
    """Say what stands against a dimension; None when nothing does."""
    where = f"space.{key}"
    for fixed, why in FIXED.items():
        if key == fixed or key.startswith(f"{fixed}."):
            return f"{where} cannot be tuned: {why}; remove it"
    annotation = _annotation(key)
    if annotation is None:
        return f"{where}: no such setting; name one of {' or '.join(SECTIONS)}, with all its parts"
    kinds = _kinds(annotation)
    if dimension.kind not in kinds:
        return f"{where}: {dimension.kind} does not fit this setting; use {' or '.join(kinds)}"
    for value in dimension.values:
        refused = _taken(key, value)[1]
        if refused:
            return f"{where}: the setting itself refuses {value!r}: {refused}"
    return None


def _annotation(key: str) -> Any:
    """Find the type of a setting; None when the key names no single setting."""
    section, *names = key.split(".")
    model: Any = SECTIONS.get(section)
    for name in names:
        if not _is_section(model) or name not in model.model_fields:
            return None
        model = _without_none(model.model_fields[name].annotation)
    return None if _is_section(model) else model


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation
    parts = [part for part in get_args(annotation) if part is not type(None)]
    return parts[0] if len(parts) == 1 else annotation


def _kinds(annotation: Any) -> tuple[Kind, ...]:
    if annotation is int:
        return ("integer", "log_integer", "choice")
    return ("uniform", "log_uniform", "choice") if annotation is float else ("choice",)


def _taken(key: str, value: object) -> tuple[Any, str]:
    """Give a value as the setting takes it, and why it does not: empty when it does."""
    section, _, inner = key.partition(".")
    model = SECTIONS[section]
    document = model().model_dump()
    *parents, name = inner.split(".")
    target = document
    for parent in parents:
        target[parent] = target.get(parent) or {}
        target = target[parent]
    target[name] = value
    try:
        return setting(model.model_validate(document), inner), ""
    except ValidationError as error:
        return value, error.errors()[0]["msg"]

"""From a search space to what a trial is made with: distributions, values, a trial's configuration.

Knows the tuning section and Optuna's distributions; knows nothing of trials, workers or files.
"""

from collections.abc import Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import ValidationError

from app.config import Config
from app.sections.tuning import Dimension, Scalar, TuningConfig, nested, setting

DIGITS = 4


def distributions(tuning: TuningConfig) -> dict[str, BaseDistribution]:
    """Describe the space to Optuna, by dotted key."""
    return {key: _distribution(dimension) for key, dimension in sorted(tuning.space.items())}


def _distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.choice is not None:
        return CategoricalDistribution(dimension.choice)
    low, high = dimension.values
    if dimension.kind in ("integer", "log_integer"):
        return IntDistribution(low, high, log=dimension.is_log)
    return FloatDistribution(low, high, log=dimension.is_log)


def readable(tuning: TuningConfig, drawn: Mapping[str, Any]) -> dict[str, Scalar]:
    """Round what was drawn to four digits, within its bounds: people will read and keep it.

    >>> space = {"training.learning_rate": {"log_uniform": [1e-4, 1e-2]}}
    >>> readable(TuningConfig(space=space), {"training.learning_rate": 0.00123456})
    {'training.learning_rate': 0.001235}
    """
    values: dict[str, Scalar] = {}
    for key, value in sorted(drawn.items()):
        dimension = tuning.space[key]
        if dimension.kind in ("uniform", "log_uniform"):
            low, high = dimension.values
            value = min(max(float(f"{value:.{DIGITS}g}"), low), high)
        values[key] = value
    return values


def trial_config(config: Config, values: Mapping[str, Scalar]) -> Config:
    """Make a trial's configuration: the search's own with these values, and without a refit.

    A trial is judged before a refit, which would only cost time. Raises ValueError when the
    settings refuse the values together.
    """
    document = nested({**values, "training.refit": False})
    changed = {}
    for name in ("training", "features"):
        section = getattr(config, name)
        try:
            changed[name] = type(section).model_validate(
                _merged(section.model_dump(), document.get(name, {}))
            )
        except ValidationError as error:
            raise ValueError(f"{name}: {error.errors()[0]['msg']}") from None
    return config.model_copy(update=changed)


def current_values(config: Config) -> dict[str, Scalar] | None:
    """Give the settings as they stand as the first point of the search; None if outside the space.

    A search that begins with them cannot end with anything worse, by its own measure.
    """
    values = {key: setting(config, key) for key in sorted(config.tuning.space)}
    if all(dimension.holds(values[key]) for key, dimension in config.tuning.space.items()):
        return values
    return None


def max_epochs(config: Config) -> int:
    """Give the most epochs that any trial may run."""
    dimension = config.tuning.space.get("training.epochs")
    return config.training.epochs if dimension is None else int(max(dimension.values))


def _merged(document: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in changes.items():
        inner = document.get(key)
        document[key] = _merged(inner, value) if isinstance(inner, dict) else value
    return document

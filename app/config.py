"""Every dial of Mainspring: frozen sections, checked when loaded.

Knows names, bounds and units; knows nothing of the parts that read them. A YAML file describes one
model; `--set section.key=value` overrides it. Unknown keys are errors.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from app.contracts.rows import Contract, Frozen
from app.sections import (
    CardConfig,
    ClusterConfig,
    EncryptionConfig,
    EvaluationConfig,
    FeaturesConfig,
    IntakeConfig,
    LoopConfig,
    MonitoringConfig,
    ReplayConfig,
    ServingConfig,
    SourceConfig,
    TablesConfig,
    TrainingConfig,
    TuningConfig,
)
from app.sections.training import WHERE


class ConfigError(ValueError):
    """A configuration that cannot be used: where, what was got, what to change."""


class Config(Frozen):
    """One model, whole."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,40}$")
    profile: Literal["development", "production"] = "development"
    clock: Literal["wall", "driven"] = "wall"
    workspace: Path = Field(description="Folder of tables, ledger, artifacts, spool and keys.")
    source: SourceConfig
    contract: Contract
    intake: IntakeConfig = IntakeConfig()
    features: FeaturesConfig = FeaturesConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    card: CardConfig = CardConfig()
    tuning: TuningConfig = TuningConfig()
    serving: ServingConfig = ServingConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    loop: LoopConfig = LoopConfig()
    replay: ReplayConfig = ReplayConfig()
    cluster: ClusterConfig = ClusterConfig()
    tables: TablesConfig = TablesConfig()
    encryption: EncryptionConfig = EncryptionConfig()

    @model_validator(mode="after")
    def _production_has_no_driven_clock(self) -> Self:
        if self.profile == "production" and self.clock == "driven":
            raise ValueError("clock: a driven clock is refused in production; set clock to wall")
        return self

    @model_validator(mode="after")
    def _entity_divides(self) -> Self:
        if self.training.split.by == "entity" and self.contract.entity is None:
            raise ValueError("training.split.by: entity needs contract.entity; name it or take id")
        return self

    @model_validator(mode="after")
    def _spelled_classes_exist(self) -> Self:
        inline = self.source.inline
        unknown = sorted(set(inline.classes if inline else ()) - set(self.contract.classes))
        if unknown:
            raise ValueError(
                f"source.inline.classes: {', '.join(unknown)} is none of contract.classes; add it "
                "there or correct it"
            )
        return self

    @property
    def tables_path(self) -> Path:
        """Root of the Delta tables."""
        return self.workspace / "tables"

    @property
    def ledger_url(self) -> str:
        """SQLAlchemy URL of the ledger."""
        return f"sqlite:///{self.workspace / 'ledger.sqlite'}"

    @property
    def artifacts_path(self) -> Path:
        """Root of the content-addressed artifacts."""
        return self.workspace / "artifacts"

    @property
    def spool_path(self) -> Path:
        """Root of the replicas' spools."""
        return self.workspace / "spool"

    @property
    def experiments_url(self) -> str:
        """MLflow tracking URI."""
        return f"sqlite:///{self.workspace / 'experiments.sqlite'}"

    @property
    def reports_path(self) -> Path:
        """Folder of HTML reports."""
        return self.workspace / "reports"

    @property
    def ingest_reports_path(self) -> Path:
        """Folder of the reports on what came in, JSON and HTML."""
        return self.reports_path / "ingest"

    @property
    def cards_path(self) -> Path:
        """Folder of model cards, HTML and Markdown."""
        return self.reports_path / "cards"

    def digest_of(self, *sections: str) -> str:
        """Digest named sections: equal digests mean equal settings, however they were written.

        Where a run is computed is left out: the same model comes of it.
        """
        document = self.model_dump(mode="json", exclude={"training": set(WHERE)})
        chosen = {name: document[name] for name in sections}
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a model's YAML file and apply `section.key=value` overrides.

    A relative workspace is taken from the current folder. Raises ConfigError with the place, the
    value got and what to change.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"{file}: no such configuration file; see configs/ for examples")
    try:
        document = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not YAML: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{file}: expected sections with keys, got {type(document).__name__}")
    config = _validated(document, overrides, str(file))
    return config.model_copy(update={"workspace": config.workspace.expanduser().absolute()})


def override_config(config: Config, overrides: Sequence[str]) -> Config:
    """Apply `section.key=value` overrides to a configuration. Raises ConfigError."""
    return _validated(config.model_dump(mode="json"), overrides, "--set")


def _validated(document: dict[str, object], overrides: Sequence[str], where: str) -> Config:
    """Apply overrides to a document, in place, and read it. Raises ConfigError."""
    for override in overrides:
        _override(document, override)
    try:
        return Config.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error)}") from None


def show_config(config: Config) -> str:
    """Print the effective configuration as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _override(document: dict[str, object], override: str) -> None:
    """Set one dotted key of a document in place."""
    dotted, separator, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not separator or not all(keys):
        raise ConfigError(f"--set {override}: expected section.key=value")
    target = document
    for key in keys[:-1]:
        child = target.setdefault(key, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: {key} is no section")
        target = child
    target[keys[-1]] = yaml.safe_load(text)


def _explain(error: ValidationError) -> str:
    """Say every problem as `place: problem, got value`."""
    lines = []
    for item in error.errors():
        place = ".".join(str(part) for part in item["loc"]) or "configuration"
        if item["type"] == "extra_forbidden":
            lines.append(f"{place}: unknown key; check its spelling or remove it")
        elif item["type"] == "missing":
            lines.append(f"{place}: is needed and absent")
        elif item["type"] == "value_error":
            lines.append(f"{place}: {item['ctx']['error']}")
        else:
            lines.append(f"{place}: {item['msg']}, got {item['input']!r}")
    return "; ".join(lines)

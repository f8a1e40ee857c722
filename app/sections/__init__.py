"""The sections of a model's configuration: every dial with its bounds and its unit.

One file a stage; knows nothing of files, or of the parts that read the dials.
"""

from app.sections.capture import CaptureConfig
from app.sections.data import FeaturesConfig, IntakeConfig, SourceConfig, SplitConfig
from app.sections.evaluation import CardConfig, CostsConfig, EvaluationConfig
from app.sections.guarding import GuardConfig
from app.sections.inline import InlineConfig, TimeReading
from app.sections.loop import DiagnosisConfig, GateConfig, GovernorConfig, LoopConfig, WatchConfig
from app.sections.monitoring import MonitoringConfig
from app.sections.running import ClusterConfig, ReplayConfig
from app.sections.scaling import ScalingConfig
from app.sections.security import EncryptionConfig, TokensConfig
from app.sections.serving import ServingConfig
from app.sections.tables import TablesConfig
from app.sections.training import NetworkConfig, TrainingConfig, TreesConfig
from app.sections.tuning import AshaConfig, Dimension, TuningConfig

__all__ = [
    "AshaConfig",
    "CaptureConfig",
    "CardConfig",
    "ClusterConfig",
    "CostsConfig",
    "DiagnosisConfig",
    "Dimension",
    "EncryptionConfig",
    "EvaluationConfig",
    "FeaturesConfig",
    "GateConfig",
    "GovernorConfig",
    "GuardConfig",
    "InlineConfig",
    "IntakeConfig",
    "LoopConfig",
    "MonitoringConfig",
    "NetworkConfig",
    "ReplayConfig",
    "ScalingConfig",
    "ServingConfig",
    "SourceConfig",
    "SplitConfig",
    "TablesConfig",
    "TimeReading",
    "TokensConfig",
    "TrainingConfig",
    "TreesConfig",
    "TuningConfig",
    "WatchConfig",
]

from efficientps.training.callbacks.evaluation_report import EvaluationReport
from efficientps.training.callbacks.frozen_backbone import FrozenBackbone
from efficientps.training.callbacks.overlays import ValidationOverlays
from efficientps.training.callbacks.predictions import PredictionWriter
from efficientps.training.callbacks.progress_lines import ProgressLines
from efficientps.training.callbacks.swa_weight_averaging import SWAWeightAveraging
from efficientps.training.callbacks.throughput import ThroughputMonitor

__all__ = [
    "EvaluationReport",
    "FrozenBackbone",
    "PredictionWriter",
    "ProgressLines",
    "SWAWeightAveraging",
    "ThroughputMonitor",
    "ValidationOverlays",
]

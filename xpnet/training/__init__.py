"""Epochs, metrics, history and checkpoints: what turns steps into a trained network."""

from xpnet.training.checkpoint import Checkpoint
from xpnet.training.evaluation import Evaluation, check_evaluation, evaluate
from xpnet.training.history import Epoch, History
from xpnet.training.loop import train
from xpnet.training.progress import Progress
from xpnet.training.settings import Settings

__all__ = [
    "Checkpoint",
    "Epoch",
    "Evaluation",
    "History",
    "Progress",
    "Settings",
    "check_evaluation",
    "evaluate",
    "train",
]

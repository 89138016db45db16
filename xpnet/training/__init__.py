"""Epochs, metrics, history and checkpoints: what turns steps into a trained network."""

from xpnet.training.checkpoint import Checkpoint as Checkpoint
from xpnet.training.evaluation import Evaluation as Evaluation
from xpnet.training.evaluation import check_evaluation as check_evaluation
from xpnet.training.evaluation import evaluate as evaluate
from xpnet.training.history import Epoch as Epoch
from xpnet.training.history import History as History
from xpnet.training.loop import train as train
from xpnet.training.progress import Progress as Progress
from xpnet.training.settings import Settings as Settings

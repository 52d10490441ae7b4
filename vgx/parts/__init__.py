"""What a config can name: initializers, activations, normalizations and so on, each with all that is known of it."""

from vgx.parts.activations import ACTIVATIONS, Activation
from vgx.parts.initializers import BIASES, INITIALIZERS, Initializer
from vgx.parts.normalizations import NORMALIZATIONS, Normalization
from vgx.parts.optimizers import CLIPS, OPTIMIZERS, SCHEDULES, Clip, Optimizer, Schedule
from vgx.parts.residuals import RESIDUALS, Residual

__all__ = [
    "ACTIVATIONS",
    "BIASES",
    "CLIPS",
    "INITIALIZERS",
    "NORMALIZATIONS",
    "OPTIMIZERS",
    "RESIDUALS",
    "SCHEDULES",
    "Activation",
    "Clip",
    "Initializer",
    "Normalization",
    "Optimizer",
    "Residual",
    "Schedule",
]

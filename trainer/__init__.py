"""trainer: two-stream networks, trained, evaluated and fused on a corpus of flowprep.

These are the public names. `import trainer` does not load torch: a name is loaded on its first use.

    from pathlib import Path
    import trainer

    recipe = trainer.read_recipe(Path("spatial.toml"))
    result = trainer.train(recipe, "corpus", "trainlist01.txt", "testlist01.txt", Path("runs/spatial"))
    print(result.scores.accuracy)

The command `trainer` calls these functions.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.api import EvaluationResult as EvaluationResult
    from trainer.api import evaluate as evaluate
    from trainer.api import fuse as fuse
    from trainer.api import open_run as open_run
    from trainer.api import train as train
    from trainer.errors import CheckpointDamaged as CheckpointDamaged
    from trainer.errors import ExportDiffers as ExportDiffers
    from trainer.errors import FlowprepError as FlowprepError
    from trainer.errors import NotFinite as NotFinite
    from trainer.errors import TrainingDiverged as TrainingDiverged
    from trainer.errors import UsageError as UsageError
    from trainer.evaluation.fusion import Fusion as Fusion
    from trainer.evaluation.fusion import FusionResult as FusionResult
    from trainer.evaluation.predict import Prediction as Prediction
    from trainer.evaluation.predict import predict as predict
    from trainer.evaluation.scores import Scores as Scores
    from trainer.evaluation.trained_run import Run as Run
    from trainer.models.registry import register_model as register_model
    from trainer.models.spec import ModelSpec as ModelSpec
    from trainer.recipe.networks import allow_network as allow_network
    from trainer.recipe.schema import Recipe as Recipe
    from trainer.recipe.toml import read_recipe as read_recipe

# Module -> its public names.
_PUBLIC = {
    "trainer.api": ("EvaluationResult", "evaluate", "fuse", "open_run", "train"),
    "trainer.errors": (
        "CheckpointDamaged",
        "ExportDiffers",
        "FlowprepError",
        "NotFinite",
        "TrainingDiverged",
        "UsageError",
    ),
    "trainer.evaluation.fusion": ("Fusion", "FusionResult"),
    "trainer.evaluation.predict": ("Prediction", "predict"),
    "trainer.evaluation.scores": ("Scores",),
    "trainer.evaluation.trained_run": ("Run",),
    "trainer.models.registry": ("register_model",),
    "trainer.models.spec": ("ModelSpec",),
    "trainer.recipe.networks": ("allow_network",),
    "trainer.recipe.schema": ("Recipe",),
    "trainer.recipe.toml": ("read_recipe",),
}
_MODULES = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'trainer' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__

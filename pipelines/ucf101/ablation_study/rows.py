"""The rows of the table: networks, fusions and controls, with the published figures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Network:
    """A network that is trained and evaluated.

    Attributes:
        name: name of the row.
        published: accuracy of the paper on split 1, percent; None if the paper has no such row.
        recipe: file in pipelines/, without its suffix.
        changes: changes of the recipe.
        second_task: how it learns from the second data set: "multi-task", "add-classes", or "".
        start: row of the network from which it starts, or "".
        weights: whether it starts from ImageNet weights.
    """

    name: str
    published: float | None
    recipe: str
    changes: tuple[str, ...] = ()
    second_task: str = ""
    start: str = ""
    weights: bool = False

    @property
    def hmdb51(self) -> bool:
        """Whether it is evaluated on HMDB-51, with UCF-101 as the second data set."""
        return self.recipe.startswith("hmdb51")


@dataclass(frozen=True)
class Fusion:
    """The spatial network fused with a temporal network.

    Attributes:
        name, published: as of `Network`.
        temporal: row of the temporal network.
        method: method of `trainer fuse`.
        calibrate: whether the scores are calibrated first.
    """

    name: str
    published: float | None
    temporal: str
    method: str
    calibrate: bool = False


@dataclass(frozen=True)
class Control:
    """A trained network, evaluated with a change of its input that it did not learn with.

    Attributes:
        name, published: as of `Network`.
        network: row of the network.
        control: the change, as `input.control` of a recipe.
    """

    name: str
    published: float | None
    network: str
    control: str


@dataclass(frozen=True)
class FlowStatistics:
    """No network: a regression on how much moves, without place, direction and order."""

    name: str
    published: float | None = None


Row = Network | Fusion | Control | FlowStatistics

FINE_TUNED = "ucf101/spatial_finetune"
LAST_LAYER = "ucf101/spatial"
ROWS: tuple[Row, ...] = (
    Network("spatial-scratch-0.5", 42.5, "ucf101/spatial_scratch", ("model.dropout=0.5",)),
    Network("spatial-scratch-0.9", 52.3, "ucf101/spatial_scratch", ("model.dropout=0.9",)),
    Network("spatial-finetune-0.5", 70.8, FINE_TUNED, ("model.dropout=0.5",), weights=True),
    Network("spatial-finetune-0.9", 72.8, FINE_TUNED, ("model.dropout=0.9",), weights=True),
    Network(
        "spatial-last-0.5", 72.7, LAST_LAYER, ("model.dropout=0.5", "model.trainable=last"), weights=True
    ),
    Network(
        "spatial-last-0.9", 59.9, LAST_LAYER, ("model.dropout=0.9", "model.trainable=last"), weights=True
    ),
    Network("L1", 73.9, "ucf101/temporal", ("input.stack=1",)),
    Network("L5", 80.4, "ucf101/temporal", ("input.stack=5",)),
    Network("L10-with-mean", 79.9, "ucf101/temporal", ("input.subtract_mean=false",)),
    Network("L10", 81.0, "ucf101/temporal"),
    Network(
        "trajectories-with-mean",
        79.6,
        "ucf101/temporal",
        ("input.trajectories=true", "input.subtract_mean=false"),
    ),
    Network("trajectories", 80.2, "ucf101/temporal", ("input.trajectories=true",)),
    Network("bidirectional", 81.2, "ucf101/temporal", ("input.bidirectional=true",)),
    Network("multi-task", 81.5, "ucf101/temporal", second_task="multi-task"),
    Network("L10-reversed", None, "ucf101/temporal", ("input.control=reversed",)),
    Network("L10-shuffled", None, "ucf101/temporal", ("input.control=shuffled",)),
    FlowStatistics("flow-statistics"),
    Control("L10-judged-reversed", None, "L10", "reversed"),
    Control("L10-judged-shuffled", None, "L10", "shuffled"),
    Fusion("L10-weighted", None, "L10", "weighted"),
    Fusion("L10-svm", None, "L10", "svm"),
    Fusion("L10-calibrated-average", None, "L10", "average", calibrate=True),
    Fusion("L10-calibrated-weighted", None, "L10", "weighted", calibrate=True),
    Fusion("bidirectional-average", 85.6, "bidirectional", "average"),
    Fusion("L10-average", 85.9, "L10", "average"),
    Fusion("multi-task-average", 86.2, "multi-task", "average"),
    Fusion("multi-task-svm", 87.0, "multi-task", "svm"),
    Network("hmdb51", 46.6, "hmdb51/temporal"),
    Network("hmdb51-finetune", 49.0, "hmdb51/temporal_finetune", start="L10"),
    Network("hmdb51-add-classes", 52.8, "hmdb51/temporal", second_task="add-classes"),
    Network("hmdb51-multi-task", 55.4, "hmdb51/temporal", second_task="multi-task"),
)
BY_NAME = {row.name: row for row in ROWS}
SETS = {
    "paper": tuple(row.name for row in ROWS if row.published is not None),
    "streams": (
        "spatial-scratch-0.5",
        "L10",
        "L10-average",
        "L10-weighted",
        "L10-svm",
        "L10-calibrated-average",
        "L10-calibrated-weighted",
    ),
    "controls": (
        "flow-statistics",
        "L1",
        "L5",
        "L10",
        "L10-with-mean",
        "trajectories",
        "bidirectional",
        "multi-task",
        "L10-reversed",
        "L10-shuffled",
        "L10-judged-reversed",
        "L10-judged-shuffled",
    ),
}

# Classes of UCF-101 whose action is also a class of HMDB-51. The other 78 are added to HMDB-51. The paper
# adds 78 classes, too, but does not name them. These were chosen by their names.
SHARED_CLASSES = [
    "Archery",
    "BaseballPitch",
    "Basketball",
    "BasketballDunk",
    "Biking",
    "BoxingPunchingBag",
    "BoxingSpeedBag",
    "CliffDiving",
    "Diving",
    "Fencing",
    "FrisbeeCatch",
    "GolfSwing",
    "HandstandPushups",
    "HandstandWalking",
    "HorseRace",
    "HorseRiding",
    "PullUps",
    "Punch",
    "PushUps",
    "RockClimbingIndoor",
    "RopeClimbing",
    "SoccerPenalty",
    "WalkingWithDog",
]

"""Training runs on the corpus in memory."""

from tests.support.fakes import FakeCorpus, examples_of, rows, small
from trainer.training.trainer import train


class Killed(Exception):
    """Ends a run in the middle."""


def kill_at(step):
    """A callback of a run that ends it after a step."""

    def on_step(done, _row):
        if done == step:
            raise Killed

    return on_step


def run(out, recipe=None, **options):
    """Train on the CPU."""
    corpus = options.pop("corpus", None) or FakeCorpus()
    return train(recipe or small(), corpus, examples_of(corpus), out, device="cpu", **options)


def losses(out):
    """The figures of each row of a run's log that do not depend on the speed."""
    return [(row["step"], row["loss"], row["train_accuracy"], row.get("val_loss")) for row in rows(out)]

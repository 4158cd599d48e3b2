from dataclasses import replace

import numpy as np
import pytest

from flowprep.errors import UsageError
from trainer.evaluation import fusion as fusing
from trainer.evaluation.calibration import (
    GROUP_CORRELATION,
    PRIOR,
    best_temperature,
    best_weight,
    evidence,
    with_temperature,
)
from trainer.evaluation.fusion import fit_fusion
from trainer.evaluation.metrics import summarise
from trainer.evaluation.scores import Scores

CLASSES = np.array(["a", "b", "c"])


def fuse(a, b, method, fit=None, *, calibrate=False):
    return fit_fusion(method, fit, calibrate=calibrate)(a, b)


def scores(rows, labels, prefix="v"):
    rows = np.array(rows, np.float32)
    ids = np.array([f"{prefix}{i}.avi" for i in range(len(rows))])
    return Scores(ids, np.array(labels), CLASSES, rows)


def noisy(count, seed, sharp, prefix):
    """Softmax scores whose true class has `sharp` more in its logit."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    logits = rng.normal(0, 1, (count, 3))
    logits[np.arange(count), labels] += sharp
    rows = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return scores(rows, labels, prefix)


def test_average():
    a = scores([[0.6, 0.4, 0], [0.5, 0.3, 0.2]], [1, 0])
    b = scores([[0.1, 0.9, 0], [0.1, 0.2, 0.7]], [1, 0])
    fused = fuse(a, b, "average")
    np.testing.assert_allclose(fused.scores, [[0.35, 0.65, 0], [0.3, 0.25, 0.45]], rtol=1e-6)
    assert (a.accuracy, b.accuracy, fused.accuracy) == (0.5, 0.5, 0.5)


def test_videos_are_matched_by_id():
    a, b = noisy(9, 0, 1, "v"), noisy(9, 1, 1, "v")
    order = np.random.default_rng(2).permutation(9)
    turned = Scores(b.ids[order], b.labels[order], b.classes, b.scores[order])
    assert np.array_equal(fuse(a, b, "average").scores, fuse(a, turned, "average").scores)


def test_scores_of_other_videos_are_refused_with_names():
    a, b = noisy(4, 0, 1, "v"), noisy(5, 1, 1, "v")
    with pytest.raises(UsageError, match=r"1 only in the second \(v4.avi\)"):
        fuse(a, b, "average")
    other = Scores(a.ids, (a.labels + 1) % 3, CLASSES, a.scores)
    with pytest.raises(UsageError, match=r"have other labels for v0.avi"):
        fuse(a, other, "average")
    with pytest.raises(UsageError, match=r"different classes"):
        fuse(a, Scores(a.ids, a.labels, CLASSES[::-1], a.scores), "average")


@pytest.mark.parametrize("method", ["weighted", "svm"])
def test_fitting_is_on_other_videos_only(method):
    a, b = noisy(30, 0, 1, "v"), noisy(30, 1, 1, "v")
    with pytest.raises(UsageError, match=r"needs --fit"):
        fuse(a, b, method)
    with pytest.raises(UsageError, match=r"30 videos of --fit are among the evaluated videos: v0.avi"):
        fuse(a, b, method, (a, b))
    fit = (noisy(60, 2, 2, "f"), noisy(60, 3, 2, "f"))
    before = fuse(a, b, method, fit).scores
    wrong = (
        Scores(a.ids, (a.labels + 1) % 3, CLASSES, a.scores),
        Scores(b.ids, (b.labels + 1) % 3, CLASSES, b.scores),
    )
    assert np.array_equal(before, fuse(*wrong, method, fit).scores)  # their labels play no part


def test_weights_follow_the_better_stream():
    good, bad = noisy(200, 0, 4, "f"), noisy(200, 1, 0, "f")
    assert best_weight(good, bad) > 0.8
    assert best_weight(bad, good) < 0.2
    a, b = noisy(50, 2, 3, "v"), noisy(50, 3, 3, "v")
    w = best_weight(good, bad)
    np.testing.assert_allclose(
        fuse(a, b, "weighted", (good, bad)).scores, w * a.scores + (1 - w) * b.scores, rtol=1e-5
    )


def mixed(a, b, w):
    return float(((w * a.scores + (1 - w) * b.scores).argmax(1) == a.labels).mean())


def test_without_evidence_flow_counts_twice():
    """A fusion that is right on every video at every weight is no evidence for a weight."""
    a = scores([[0.9, 0.1, 0], [0.1, 0.9, 0], [0, 0.1, 0.9]] * 3, [0, 1, 2] * 3)
    turned = scores(a.scores[[3, 4, 5, 0, 1, 2, 6, 7, 8]], [0, 1, 2] * 3)
    assert best_weight(a, a) == best_weight(a, turned) == pytest.approx(1 / 3, abs=1e-3)
    # A single video still gives a weight.
    assert 0 <= best_weight(noisy(1, 0, 1, "v"), noisy(1, 1, 1, "v")) <= 1


def test_weights_of_nine_videos_lose_less_than_by_their_accuracy():
    """Two equally good streams: a weight other than the prior is fitted to chance.

    Against the w that is right most often on the nine videos, over 60 draws of them.
    """
    a, b = noisy(3000, 0, 1.7, "v"), noisy(3000, 1, 1.7, "v")
    prior = mixed(a, b, PRIOR[0] / sum(PRIOR))
    by_loss, by_accuracy = [], []
    for draw in range(60):
        fit = noisy(9, 100 + draw, 1.7, "f"), noisy(9, 900 + draw, 1.7, "f")
        by_loss.append(mixed(a, b, best_weight(*fit)))
        best = max(np.linspace(0, 1, 21), key=lambda w: mixed(*fit, w))
        by_accuracy.append(mixed(a, b, best))
    assert np.mean(by_loss) > np.mean(by_accuracy) + 0.01
    assert np.mean(by_loss) > prior - 0.01


def test_the_svm_learns_a_rule_that_no_weight_has():
    """One stream separates class 0 from the rest. The other separates 1 from 2, with swapped names."""
    rng = np.random.default_rng(0)

    def streams(count, prefix):
        labels = np.arange(count) % 3
        first = np.where(labels[:, None] == 0, [0.8, 0.1, 0.1], [0.2, 0.4, 0.4])
        turned = np.array([[0.4, 0.3, 0.3], [0.3, 0.2, 0.5], [0.3, 0.5, 0.2]])[labels]
        make = lambda rows: scores(rows + rng.normal(0, 0.02, rows.shape), labels, prefix)  # noqa: E731
        return make(first), make(turned)

    a, b = streams(60, "v")
    fit = streams(90, "f")
    assert fuse(a, b, "average").accuracy < 0.6
    fused = fuse(a, b, "svm", fit)
    assert fused.accuracy > 0.97
    assert fused.scores.shape == (60, 3)


def test_svm_features_are_l2_normalised_and_stacked():
    a, b = noisy(4, 0, 1, "v"), noisy(4, 1, 1, "v")
    features = fusing.svm_features(a, b)
    assert features.shape == (4, 6)
    np.testing.assert_allclose(np.linalg.norm(features[:, :3], axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(features[:, 3:] / features[:, 3:4], b.scores / b.scores[:, :1], rtol=1e-5)


def test_two_classes():
    def two(count, seed, prefix):
        s = noisy(count * 3 // 2, seed, 3, prefix)
        keep = s.labels < 2
        rows = s.scores[keep][:, :2]
        return Scores(s.ids[keep], s.labels[keep], CLASSES[:2], rows / rows.sum(1, keepdims=True))

    fused = fuse(two(40, 0, "v"), two(40, 1, "v"), "svm", (two(40, 2, "f"), two(40, 3, "f")))
    assert fused.scores.shape == (40, 2) and fused.accuracy > 0.9


def test_the_temperature_of_scaled_logits_is_found():
    """Labels are drawn from the scores. Multiplying the logits by 3 needs the temperature 3."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 3))
    odds = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([rng.choice(3, p=row) for row in odds])
    # 4,000 videos determine it to about 5%.
    assert abs(best_temperature(scores(odds, labels)) - 1) < 0.08
    sure = odds**3 / (odds**3).sum(1, keepdims=True)
    assert abs(best_temperature(scores(sure, labels)) - 3) < 0.24
    np.testing.assert_allclose(with_temperature(scores(sure, labels), 3).scores, odds, atol=1e-3)


def test_a_stream_that_is_right_on_few_videos_stays_uncertain():
    """Platt's targets: nine correct videos of nine give the next one a probability of 10/12."""
    right = scores(np.eye(3)[[0, 1, 2] * 3] * 0.4 + 0.2, [0, 1, 2] * 3)  # 0.6 for the class
    calibrated = with_temperature(right, best_temperature(right)).scores.max(1)
    np.testing.assert_allclose(calibrated, 10 / 12, atol=0.01)
    many = scores(np.tile(right.scores, (100, 1)), [0, 1, 2] * 300)
    assert with_temperature(many, best_temperature(many)).scores.max() > 0.99


def test_calibration_reduces_an_overconfident_stream():
    """A confident stream of chance accuracy dominates a good one, until its temperature is fitted."""

    def streams(count, seed, prefix):
        good, bad = noisy(count, seed, 1.5, prefix), noisy(count, seed + 1, 0, prefix)
        return good, with_temperature(bad, 0.1)

    (good, bad), fit = streams(300, 0, "v"), streams(300, 2, "f")
    plain, calibrated = (fuse(good, bad, "average", f, calibrate=bool(f)) for f in (None, fit))
    assert plain.accuracy < good.accuracy - 0.1
    assert calibrated.accuracy > good.accuracy - 0.02
    np.testing.assert_allclose(calibrated.scores.sum(1), 1, rtol=1e-5)
    for method in ("weighted", "svm"):
        assert fuse(good, bad, method, fit, calibrate=True).accuracy > good.accuracy - 0.05
    with pytest.raises(UsageError, match="calibration needs --fit"):
        fuse(good, bad, "average", calibrate=True)


def test_splits_are_averaged_and_confusions_summed(tmp_path):
    first = scores([[1, 0, 0], [1, 0, 0], [0, 0, 1]], [0, 1, 2])  # 2 of 3
    second = scores([[0, 1, 0]], [0])  # none of 1
    summary = summarise([first, second])
    assert summary.accuracy == [2 / 3, 0.0] and summary.mean_accuracy == pytest.approx(1 / 3, abs=1e-3)
    assert summary.confusion == [[1, 1, 0], [1, 0, 0], [0, 0, 1]]
    assert summary.class_accuracy == [0.5, 0.0, 1.0]
    summary.write_confusion(tmp_path / "c.csv")
    assert (tmp_path / "c.csv").read_text() == ",a,b,c\na,1,1,0\nb,1,0,0\nc,0,0,1\n"
    with pytest.raises(UsageError, match="different classes"):
        summarise([first, Scores(first.ids, first.labels, CLASSES[::-1], first.scores)])


def test_refusals():
    a, b = noisy(9, 0, 1, "v"), noisy(9, 1, 1, "v")
    fit = (noisy(9, 2, 1, "f"), noisy(9, 3, 1, "f"))
    with pytest.raises(UsageError, match=r"average has nothing to fit"):
        fuse(a, b, "average", fit)
    with pytest.raises(UsageError, match=r"allowed: average"):
        fuse(a, b, "product")
    few = (noisy(4, 2, 1, "f"), noisy(4, 3, 1, "f"))
    with pytest.raises(UsageError, match=r"too few in b, c"):
        fuse(a, b, "svm", few)


def grouped(scored, groups):
    """The same scores, with groups."""
    return replace(scored, groups=np.array(groups))


def test_videos_of_one_recording_count_less():
    """Five clips of one recording count as 5 / (1 + 4 r). A group of two classes is two recordings."""
    alone = noisy(30, 0, 1, "v")
    np.testing.assert_array_equal(evidence(alone), 1)
    labels = np.array([0] * 5 + [1] * 5 + [2])
    rows = grouped(scores(np.full((11, 3), 1 / 3), labels), ["g1"] * 10 + ["g2"])
    expected = 1 / (1 + 4 * GROUP_CORRELATION)
    np.testing.assert_allclose(evidence(rows), [expected] * 10 + [1])
    # The names of UCF-101 say the groups, if the file of scores does not.
    ids = np.array([f"A/v_A_g01_c{k:02d}.avi" for k in range(11)])
    np.testing.assert_allclose(evidence(replace(rows, ids=ids, groups=None))[:5], expected)


def test_a_copied_video_is_no_evidence():
    """With copies of each video as its group, temperature and weight move toward those without copies."""
    a, b = noisy(9, 0, 2, "v"), noisy(9, 1, 0.5, "v")
    order = np.repeat(np.arange(9), 5)

    def copies(scored, groups):
        ids = np.array([f"c{k}" for k in range(45)])
        return Scores(ids, scored.labels[order], CLASSES, scored.scores[order], np.array(groups))

    one_group = [f"r{k}" for k in order]
    alone = [f"r{k}" for k in range(45)]
    nine, of_copies, of_others = (
        (best_weight(x, y), best_temperature(x), best_temperature(y))
        for x, y in ((a, b), *((copies(a, g), copies(b, g)) for g in (one_group, alone)))
    )
    for first, copied, other in zip(nine, of_copies, of_others, strict=True):
        assert abs(copied - first) < abs(other - first)

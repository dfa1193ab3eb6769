"""What each block knows alone."""

import numpy as np

from vggft.features.cuts import POOLED
from vggft.heads.batches import FeatureBank
from vggft.insight.blocks import block_scores, told
from vggft.network.blocks import BLOCKS, sizes_of


def test_the_block_that_knows_is_found():
    labels, sizes = np.arange(300) % 2, sizes_of(BLOCKS, 1 / 16)
    values = np.random.default_rng(0).random((300, 2 * sum(sizes))).astype("float32")
    start = sum(sizes[:3])
    values[:, start : start + 4] *= 1 + 3 * labels[:, None]  # block4
    bank = FeatureBank(np.zeros((300, 1)), np.eye(2, dtype="float32")[labels], {POOLED: [values]}, width=1 / 16)
    scores = block_scores(bank, np.arange(200), np.arange(200, 300))
    assert [row["block"] for row in scores] == list(BLOCKS)
    assert scores[3]["accuracy"] > 0.8 > max(row["accuracy"] for row in scores if row["block"] != "block4")
    assert "block 4 alone knows more" in told(scores) and "may gain by learning" in told(scores)


def test_several_labels_and_lacking_features_have_no_scores():
    several = FeatureBank(np.zeros((4, 1)), np.ones((4, 2), "float32"), {POOLED: [np.ones((4, 184))]}, width=1 / 16)
    assert block_scores(several, np.arange(2), np.arange(2, 4)) == []
    assert block_scores(FeatureBank(np.zeros((4, 1)), np.eye(4, dtype="float32")), np.arange(2), np.arange(2, 4)) == []

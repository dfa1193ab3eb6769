"""The layers that are computed from Table 1 are those of the network that is built."""

from __future__ import annotations

import numpy as np
import pytest

import vggft
from vggft.features.layers import layers_of
from vggft.network.description import Description, build

HEADS = {
    "a probe on three blocks": vggft.Head(units=(), blocks=("block3", "block4", "block5")),
    "dense layers on block 5": vggft.Head(units=(24, 16), blocks=("block5",)),
    "flattened": vggft.Head(units=(8,), pooling="flatten"),
}


@pytest.mark.parametrize("column", ["B", "C", "D"])
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_they_have_the_sizes_and_weights_that_keras_counts(column: str, head: vggft.Head) -> None:
    description = Description(("a", "b", "c"), (64, 96), column=column, width=1 / 8, head=head)
    model = build(description)
    counted = layers_of(column, 1 / 8, (64, 96), head, 3)
    names = [each.name for each in counted]
    weighed = [layer.name for layer in model.layers if layer.count_params()]
    assert [each.name for each in counted if each.weights] == weighed
    for each in counted:
        if each.name not in {layer.name for layer in model.layers}:
            continue
        layer = model.get_layer(each.name)
        assert each.size == int(np.prod(layer.output.shape[1:])), each.name
        assert each.weights == layer.count_params(), each.name
        if hasattr(layer, "kernel"):  # each place of the output multiplies by every number of the kernel
            places = int(np.prod(layer.output.shape[1:-1]))
            assert each.products == places * int(np.prod(layer.kernel.shape)), each.name
    assert names.index("block1_conv1") == 0 and names[-1] == "logits"

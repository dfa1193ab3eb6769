"""The paper's Table 1 -> one flat Keras graph, from pixels to probabilities, with pretrained weights.

`blocks` holds the architecture as data, `vgg` builds it, `head` adds the dense layers, and `description` is what a
classifier is rebuilt from. Begin reading with `blocks`, then `description.build`.
"""

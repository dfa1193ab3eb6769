"""Probabilities and embeddings of images that were held out -> how far the answers of a classifier can be believed.

`strangers` tells images of none of the classes, `conformal` makes sets of classes with a promise, and `trust` is what a
classifier keeps of both. Begin reading with `trust`.
"""

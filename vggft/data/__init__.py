"""Anything people bring -> checked pixels, labels and splits.

`sources` lists the images and labels of every kind of dataset, `labels` numbers the classes, `scan` decodes, and
`pool` puts all of it together for a run. Begin reading with `dataset`, then `pool`.
"""

"""Turn any kind of dataset into checked pixels, labels and splits.

`sources` lists the images and labels of every kind of dataset, `feeds` reads those that come bit by bit, `scan` decodes
the images, and `pool` combines everything for a run. Begin reading with `dataset`, then `pool`.
"""

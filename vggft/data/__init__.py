"""Turn any kind of dataset into checked pixels and labels.

`sources` lists the images and labels of every kind of dataset, `feeds` reads those that come bit by bit, `scan` decodes
the images, and `audit` says what is wrong with them. Begin reading with `dataset`.
"""

"""Turn any kind of dataset into checked pixels and labels.

`sources` lists the images and labels of every kind of dataset, `labels` numbers the classes, `scan` decodes the images,
and `audit` says what is wrong with them. Begin reading with `dataset`.
"""

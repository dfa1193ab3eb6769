"""A trained network and what is known about it -> one file, and back.

`artifact` predicts, evaluates, saves and loads, `archive` is the file format, `record` says how a classifier was made,
`judge` evaluates a fresh network, `adjust` fits temperature and thresholds, `explain` computes Grad-CAM.
Begin reading with `artifact`.
"""

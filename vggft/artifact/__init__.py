"""A trained network and what is known about it -> one file, and back.

`artifact` predicts, `archive` writes and reads the `.keras` file, `judge` evaluates a fresh network, `record` tells
what made it, `explain` draws Grad-CAM. Begin reading with `artifact`.
"""

"""Frozen features or pixels -> learned weights.

`experiment` holds what all trainings of a run share, `phases` says what is trained when, and `train` trains one
setting: its head by `heads`, its blocks by Keras's own `fit`. Begin reading with `train`.
"""

"""Frozen features or pixels -> learned weights.

`experiment` holds what all trainings of a run share, `phases` says what is trained when, `fit` trains one setting with
Keras's own `fit`, and `population` trains many heads at once. Begin reading with `fit.train`.
"""

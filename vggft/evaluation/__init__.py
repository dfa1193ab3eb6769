"""Labels and probabilities -> metrics with intervals, calibration, mistakes and comparisons.

Everything uses NumPy, SciPy and scikit-learn; no module imports TensorFlow. `metrics` has the table of metrics, and
`checks.evaluate` makes an `Evaluation`. Begin reading with `evaluation`.
"""

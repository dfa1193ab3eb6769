"""Labels and probabilities -> metrics with intervals, calibration, mistakes and comparisons.

Everything here is NumPy, SciPy and scikit-learn; no module imports TensorFlow. Begin reading with `evaluation`; the
table of metrics is in `metrics`, and `checks.evaluate` is how an `Evaluation` is made.
"""

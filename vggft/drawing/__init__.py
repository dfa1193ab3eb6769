"""Results -> plots: Display classes in scikit-learn's manner, which the report and notebooks show.

Begin reading with `display`; `vggft.plots` names all of them.
"""

"""A search space -> the best of many heads, by KerasTuner's oracles over frozen features.

`space` says what may be chosen, `rounds` trains the trials of a round, `tuner` runs KerasTuner, `search` combines all
of it. Begin reading with `search`.
"""

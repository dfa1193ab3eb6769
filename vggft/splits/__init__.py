"""Checked images and labels -> train, validation and test, and folds.

`groups` finds out which images belong together, `splitting` draws, `apart` leaves out what is on two sides of given
splits, and `pool` combines everything for a run. Begin reading with `pool`.
"""

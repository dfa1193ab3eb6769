"""Frozen features and labels -> what is in the data: wrong labels, near-duplicates, what more images would bring.

The features are those that the cache has, so an answer costs seconds; `ranking` and `layout` are for images without
labels, too. Begin reading with `insight`, which joins what a run finds out.
"""

"""Pixels and a frozen prefix -> frozen features, computed once and kept in the cache.

`cuts` says where the frozen prefix ends, `extract` computes features that are not in the cache. Begin reading with
`extract.frozen_features`.
"""

"""Pixels and a frozen prefix -> frozen features, computed once and kept in the cache.

`cuts` says where the frozen prefix ends, `extract` computes what the cache does not hold. Begin reading with
`extract.frozen_features`.
"""

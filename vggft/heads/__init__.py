"""Frozen features -> trained heads; no blocks are needed.

`probe` solves linear heads exactly, and `population` trains many others together. Begin reading with `batches`, which
says what a head learns from.
"""

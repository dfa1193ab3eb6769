"""Files from outside, opened within bounds and held against schemas; and files of ours, written whole or not at all.

Begin reading with `writing` and `documents`.
"""

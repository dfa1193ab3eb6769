"""Several devices, processes and machines, and how they work together on one run.

Begin reading with `cluster`: which processes there are; `crew`: how they train together, also if one dies.
"""

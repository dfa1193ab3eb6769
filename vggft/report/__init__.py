"""An artifact -> what people read: the HTML report, its plots, and the model card.

`report` writes the page, `sections` collects its content, `plots` draws, `card` writes the model card.
Begin reading with `report`.
"""

"""An artifact -> pages that people look at: the HTML report and the model card.

`sections` collects what the report shows, `plots` draws it, `report` and `card` write the files. Begin reading with
`report`.
"""

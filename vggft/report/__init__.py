"""An artifact -> what people read: the HTML report and the model card.

`report` writes the page: `verdict` makes its head, `gallery` its pictures, `insights` what it says about the data,
`sections` the rest. `names` leaves out the folders of this machine, `card` writes the model card. Begin reading with
`report`.
"""

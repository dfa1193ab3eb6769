"""Images and features that are kept between runs, row by row, by what they depend on.

Begin reading with `cache`, which says where and how much; `store` has the rows, `claims` shares work among processes,
and `pulse` shows that one is alive.
"""

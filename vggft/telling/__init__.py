"""What is told to people: numbers and tables as text, pages and figures, and progress on a terminal or in a notebook.

Begin reading with `display` and `progress`.
"""

"""What people have on disk and in tables -> which images there are, with their labels as given; nothing is decoded.

Begin reading with `listing`, which everything becomes; `folders` and `meaning` find out what is meant.
"""

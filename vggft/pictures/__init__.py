"""One picture, whatever it is -> its pixels, RGB in 0..255, upright, at the size of the network.

`reading` says how a picture is read (size, resize rule, bands, value ranges), `ranges` decides which values are black
and white over a whole set, `formats` recognises files and tells what they take, `files` decides where they are
decoded, `decoding`, `tiffs` and `scientific` decode them, `arrays` converts what is in memory. Begin reading with
`reading`.
"""

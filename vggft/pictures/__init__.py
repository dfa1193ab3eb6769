"""One picture, whatever it is -> its pixels, RGB in 0..255, upright, at the size of the network.

`reading` says how a picture is read (size, resize rule, bands, value ranges), `ranges` decides which values are black
and white over a whole set, `formats` recognises files and tells what they take, `files` decides where they are
decoded, `decoding`, `tiffs` and `scientific` decode them, `colours` makes RGB of bands and values, `arrays` converts
what is in memory, `known` keeps what is known before anything is decoded. Begin reading with `reading`.
"""

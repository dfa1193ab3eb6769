"""A file of weights, or a Keras model, of any kind -> its layers in order, without running anything that is inside.

`layers` says what a layer is, `chain` whether layers are convolutions and poolings only, `hdf5` reads Keras's HDF5
files of all versions, `files` tells kinds of files apart by what is in them, and `presets` is the table of known files.
Begin reading with `files`.
"""

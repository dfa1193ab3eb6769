"""Embeddings, labels and probabilities -> what is in the data: wrong labels, strangers, what more images would bring.

Every module takes plain arrays of features that the cache has, so its answer costs seconds. Begin reading with
`features.vectors`, which makes the embeddings.
"""

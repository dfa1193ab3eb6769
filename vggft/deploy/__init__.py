"""An artifact -> other runtimes: SavedModel, ONNX, LiteRT, and a small HTTP server.

`export` writes and compares, `runtimes` has one writer and loader per format, `savedmodel_decoder` decodes images in a
SavedModel. `server` answers requests: `connections` and `callers` decide whose, `uploads` reads what they send,
`service` predicts it, within the memory of `rooms`. Begin reading with `export`.
"""

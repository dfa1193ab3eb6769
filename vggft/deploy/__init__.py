"""An artifact -> other runtimes: SavedModel, ONNX, LiteRT, and a small HTTP server.

`export` writes and checks, `runtimes` knows each format, `server` answers requests. Begin reading with `export`.
"""

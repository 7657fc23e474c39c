"""Serve translators over HTTP: upload an image, get its translation. Needs the extra `serve`.

`app.create_app` gives the application for any ASGI server, `server.serve` runs it with uvicorn.
"""

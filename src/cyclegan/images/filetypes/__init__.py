"""Readers and writers of file types: one module or a few for each. `images/file_formats.py` lists them."""

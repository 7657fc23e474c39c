"""Images of any size, exactly: a network over tiles of an image, with statistics of the whole image."""

"""Put known changes into images, and measure whether the translation shows them.

`making` makes the changes, `response` compares translations, `rates` summarises many images. All of them are functions
of tensors in [-1, 1]; `Translator.probe` and `cyclegan evaluate --probe` call them.
"""

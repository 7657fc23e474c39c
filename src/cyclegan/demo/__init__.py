"""`cyclegan demo`, with the installed earth generators."""

"""Several pictures in one file: animations, stacks of pages, volumes. `registry` lists the formats."""

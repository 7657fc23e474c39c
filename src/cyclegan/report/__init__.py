"""Pages to look at: what a page is made of, that of a run, and that of several runs side by side."""

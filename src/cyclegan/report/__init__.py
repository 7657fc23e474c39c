"""Pages: the parts of a page, the page of a run, and the page of several runs side by side."""

"""Two folders of unpaired images as training batches."""

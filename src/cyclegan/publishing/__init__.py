"""Publish a model with its card on the Hugging Face Hub."""

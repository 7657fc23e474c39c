"""What lies on disk: models, runs, scores, showcases, and models of the Hugging Face Hub."""

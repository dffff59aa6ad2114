"""The training loop, its optimizer, its resumable state and its log."""

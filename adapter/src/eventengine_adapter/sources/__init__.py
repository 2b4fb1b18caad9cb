"""Where samples come from: which pods are engines', and reading each of them once a second."""

"""HTTP: requests in, answers and problems out."""

"""One module a step; it never changes once it was released."""

"""What the tests share: builders of model values, a repository in memory, real servers."""

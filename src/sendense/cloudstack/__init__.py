"""CloudStack's API: requests that are signed, answers as values, and what each version can do."""

"""The use cases over many hosts: the catalogue says what and where, agents and repositories do it.

Each takes a :class:`~sendense.workflows.managed.task.Task`: what is wanted, what an earlier try
remembered, and how to tell of progress and be stopped.  Each may be killed at any line and begun
again with the same task.
"""

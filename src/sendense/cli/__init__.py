"""The command line: the only place of the product that prints and exits.

``main`` is the way in, ``options`` holds what every command takes, ``run`` opens
what a command works with, ``output`` and ``progress`` write, ``failures`` and
``exitcodes`` say how it ended.  ``*_view`` turn values of the domain into JSON
and tables.  All other modules hold one command or a group of them: each parses
once into a frozen request, calls a workflow, and prints what came back.
"""

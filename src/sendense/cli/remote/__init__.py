"""The command line over the REST API: commands that ask a server, and decide nothing themselves.

Every command is one or a few requests, and a way to show their answers.  What is allowed, what is
late, where a backup goes: the server says so.  Nothing here imports the HTTP library before a
command needs it, so that commands that need no server start as quickly as without it.
"""

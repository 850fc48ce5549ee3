"""``sendense repo``: looking at a repository, making its catalogue again."""

from __future__ import annotations

import typer

from sendense.cli import (
    repo_check,
    repo_gc,
    repo_init,
    repo_keys,
    repo_leases,
    repo_list,
    repo_stats,
    repo_undelete,
)
from sendense.cli.options import command
from sendense.cli.output import Report
from sendense.cli.repo_view import facts_document, facts_pairs
from sendense.cli.run import Run
from sendense.workflows.repository_facts import facts_of

app = typer.Typer(name="repo", help="Repositories of recovery points.", no_args_is_help=True)


@command
def show_repository(run: Run) -> None:
    """Show a repository as a whole."""
    facts = facts_of(run.repository())
    run.show(Report({"repository": facts_document(facts)}, [facts_pairs(facts)]))


@command
def rebuild_catalogue(run: Run) -> None:
    """Make the list of points again from what is stored."""
    points = run.repository().rebuild()
    run.show(Report({"points": points}, [f"the catalogue was made again: {points} points"]))


repo_init.register(app)
repo_list.register(app)
app.command("info")(show_repository)
repo_stats.register(app)
repo_keys.register(app)
repo_leases.register(app)
app.command("rebuild")(rebuild_catalogue)
repo_check.register(app)
repo_gc.register(app)
repo_undelete.register(app)

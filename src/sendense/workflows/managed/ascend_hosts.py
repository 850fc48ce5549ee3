"""Which of our hosts writes the disks of a restore into a cloud."""

from __future__ import annotations

import posixpath
from collections.abc import Collection
from dataclasses import replace

from sendense.errors import NotFound
from sendense.model.ascend import AscendPlan, Refusal, RefusalCode
from sendense.model.ascend_steps import NewFile, WriteDisk
from sendense.workflows.managed.cloud_hosts import hosts_with
from sendense.workflows.managed.estate import Estate


def host_with(estate: Estate, cloud_id: str, folders: Collection[str], whose: str = "") -> str:
    """Give the id of our host that is the best to reach the directories of pools."""
    found = hosts_with(estate, cloud_id, folders, whose=whose)
    if found:
        return found[0]
    raise NotFound(
        f"no host with an agent reaches {', '.join(sorted(folders))}",
        hint="sendense cloud hosts NAME shows which hosts have an agent, and their pools",
    )


def reached_plan(estate: Estate, cloud_id: str, plan: AscendPlan) -> AscendPlan:
    """Refuse a plan whose files no agent of ours reaches, before anything is touched."""
    if plan.refused:
        return plan
    over = {posixpath.dirname(each.path) for each in plan.steps if isinstance(each, WriteDisk)}
    new = {posixpath.dirname(each.path) for each in plan.steps if isinstance(each, NewFile)}
    refusals = []
    for folders in (over - {""}, *({folder} for folder in sorted(new))):
        try:
            if folders:
                host_with(estate, cloud_id, folders)
        except NotFound as error:
            refusals.append(Refusal(RefusalCode.POOL, error.message, error.hint or ""))
    return replace(plan, steps=(), refusals=tuple(refusals)) if refusals else plan

"""Bodies about restores into clouds."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from sendense.api.job_shapes import JobOptions
from sendense.api.shapes import Id, Name, Shape, Text
from sendense.model.ascend import Aim, AscendPlan, AscendRequest, Way, describe
from sendense.model.ascend_steps import Step
from sendense.model.cloud import Owner

Pairs = Annotated[dict[Name, Name], Field(max_length=100)]
_HostName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$")]


class CloudRestoreAsked(JobOptions):
    """A restore of a point into a cloud: what is named there may be named by id or by name."""

    point_id: Id = Field(examples=["019a2f6b3c41d2f08a7b"])
    repository_id: Id | None = None
    """Needed where more than one repository has the point."""
    aim: Aim = Aim.IN_PLACE
    """`in-place`: the instance of the point gets its disks back. `data-disk`: one disk becomes a
    new volume of an instance. `recreate`: an instance is made of the point."""
    volumes: Annotated[list[Name], Field(max_length=100)] = Field(default_factory=list)
    """Volumes of the point, or `root`; none: all. Exactly one with `data-disk`."""
    onto: Pairs = Field(default_factory=dict)
    """In place: volume of the point to the one that it goes over now, where that is another."""
    instance_id: Id | None = None
    """With `data-disk`: whose it becomes; without it the instance's of the point."""
    name: _HostName | None = None
    """Of the new instance, or of the new volume; without it the name of then."""
    cloud_id: Id | None = None
    """Another cloud than that of the point."""
    zone: Name | None = None
    account: Name | None = None
    domain: Text | None = None
    """Path of the account's domain (`ROOT/customers/acme`), or its id."""
    project: Name | None = None
    offering: Name | None = None
    template: Name | None = None
    networks: Pairs = Field(default_factory=dict)
    """Network of then to network now; those that are still there need none."""
    disk_offerings: Pairs = Field(default_factory=dict)
    """Volume of the point, its offering of then, or `*`, to a disk offering now."""
    pool: Name | None = None
    """Where new files go; without it where they were, or where there is room."""
    start: bool | None = None
    """Whether it runs in the end; without it as it did."""
    safety_point: bool = True
    """In place: back it up first as it is, so that the restore can be undone."""
    allow_larger: bool = False
    """In place: volumes that were enlarged since may stay so; the rest reads as zero."""
    allow_unencrypted: bool = False
    """Disks that CloudStack encrypted may come back as volumes that are not."""
    with_secrets: bool = False
    """Recreate: another owner, or another cloud, gets details and user data of then, which may hold
    passwords; the owner of then gets them anyway."""
    continues: Id | None = None
    """Go on with a job that failed, by what it planned and made; the rest is not looked at."""

    @property
    def request(self) -> AscendRequest:
        """Give it as the planning takes it."""
        owner = None
        if self.account or self.project:
            owner = Owner("", self.domain or "", self.account or "", "", self.project or "")
        return AscendRequest(
            aim=self.aim,
            volumes=tuple(self.volumes),
            onto=self.onto,
            instance_id=self.instance_id or "",
            name=self.name or "",
            zone_id=self.zone or "",
            owner=owner,
            offering_id=self.offering or "",
            template_id=self.template or "",
            networks=self.networks,
            disk_offerings=self.disk_offerings,
            pool_id=self.pool or "",
            start=self.start,
            safety_point=self.safety_point,
            allow_larger=self.allow_larger,
            allow_unencrypted=self.allow_unencrypted,
            with_secrets=self.with_secrets,
        )


class StepShape(Shape):
    """One step of a plan."""

    step: str
    """Its kind."""
    words: str


class NotTakenShape(Shape):
    """A better way, and why it cannot be gone."""

    way: Way
    reason: str


class RefusalShape(Shape):
    """One thing that has to be changed first."""

    code: str
    reason: str
    hint: str
    """What to change."""


class AscendPlanShape(Shape):
    """All that a restore into a cloud would do."""

    refused: bool
    """Something has to be changed first; there are no steps then."""
    way: Way | None
    why: str
    steps: list[StepShape]
    not_taken: list[NotTakenShape]
    warnings: list[str]
    """What will not be as it was."""
    refusals: list[RefusalShape]
    lines: list[str]
    """The same for people."""


def plan_shape(plan: AscendPlan) -> AscendPlanShape:
    """Show a plan."""
    return AscendPlanShape(
        refused=plan.refused,
        way=plan.way,
        why=plan.why,
        steps=[_step(step) for step in plan.steps],
        not_taken=[NotTakenShape.model_validate(each) for each in plan.not_taken],
        warnings=list(plan.warnings),
        refusals=[
            RefusalShape(code=each.code.value, reason=each.reason, hint=each.hint)
            for each in plan.refusals
        ],
        lines=describe(plan),
    )


def _step(step: Step) -> StepShape:
    return StepShape(step=type(step).__name__, words=step.words)

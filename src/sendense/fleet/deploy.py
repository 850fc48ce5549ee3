"""Carries out deployments: one host by its plan, and many hosts at once.

Whatever goes wrong after the first change, the host gets back what it had: its old agent with its
old settings, or nothing at all.  A deployment that dies in the middle (this process, the network,
the host) is taken back by the next one, as the host itself keeps what is needed for that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sendense import clock
from sendense.errors import NotFound, SendenseError, Stalled
from sendense.fleet.deploy_plan import DeploymentPlan, Step, StepKind, files_of
from sendense.fleet.ssh import RemoteHand, as_text
from sendense.model.agent_status import Heartbeat
from sendense.model.enrolment import Enrolment

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

HEARTBEAT_S = 60.0
DRAIN_S = 3600.0

_PACKAGES_S = 1800.0
_LOOK_S = 0.5
_PARALLEL = 10

_CHANGES = frozenset(StepKind) - {StepKind.UNDO, StepKind.PACKAGES, StepKind.REMEMBER}
"""Steps after which a failure has something to take back."""


class ControlSide(Protocol):
    """What the control plane does for a deployment."""

    def enrol(self, agent: str, public_key: str) -> Enrolment:
        """Let the agent in with this key and a new secret, in place of what it had."""

    def restore(self, agent: str) -> None:
        """Let it in with what it had before :meth:`enrol`, or not at all; may be repeated."""

    def heartbeat(self, agent: str) -> Heartbeat | None:
        """Ask the agent how it is, through its tunnel; none if it cannot be reached."""


class Pausing(Protocol):
    """What keeps new work away from a host while its agent is replaced."""

    def pause(self, agent: str) -> None:
        """Give it no new work."""

    def resume(self, agent: str) -> None:
        """Give it work again."""


@dataclass(frozen=True)
class Deployed:
    """An agent that answers."""

    agent: str
    version: str
    heartbeat: Heartbeat
    took_s: float


Report = Callable[[Step], None]
"""Told each step as it begins."""


def deploy(
    hand: RemoteHand,
    plan: DeploymentPlan,
    control: ControlSide,
    report: Report = lambda _step: None,
) -> Deployed:
    """Carry a plan out; a host that fails it is as it was before."""
    plan.preflight.require()
    work = _Deployment(hand, plan, control)
    begun = clock.monotonic()
    for step in plan.steps:
        report(step)
        try:
            work.take(step.kind)
        except BaseException as error:
            if step.kind in _CHANGES:
                work.take_back(error)
            raise
    if work.heartbeat is None:
        raise SendenseError("the plan waits for no heartbeat")
    took_s = clock.monotonic() - begun
    return Deployed(plan.config.id, plan.bundle.name, work.heartbeat, took_s)


def upgrade(
    hand: RemoteHand,
    plan: DeploymentPlan,
    control: ControlSide,
    pausing: Pausing,
    report: Report = lambda _step: None,
    *,
    drain_s: float = DRAIN_S,
) -> Deployed:
    """Replace an agent when its work has ended; nothing that runs is disturbed."""
    agent = plan.config.id
    pausing.pause(agent)
    try:
        drain(agent, control, within_s=drain_s)
        return deploy(hand, plan, control, report)
    finally:
        pausing.resume(agent)


def drain(agent: str, control: ControlSide, *, within_s: float) -> None:
    """Wait until the agent works on nothing; one that does not answer has nobody to disturb."""
    deadline = clock.monotonic() + within_s
    while True:
        beat = control.heartbeat(agent)
        if beat is None or not (beat.running or beat.queued):
            return
        if clock.monotonic() > deadline:
            raise Stalled(
                f"the agent {agent} still works on {len(beat.running)} captures or restores",
                hint="wait for them or cancel them, then repeat the upgrade",
            )
        clock.sleep(_LOOK_S)


def remove(hand: RemoteHand, release: Callable[[], None], *, keep_state: bool = False) -> None:
    """Take the agent off a host; ``release`` has it take its bitmaps off all machines first."""
    release()
    hand.ask("remove", state=not keep_state)


def on_many(
    items: Iterable[T], act: Callable[[T], R], *, parallel: int = _PARALLEL
) -> Iterator[tuple[T, R | SendenseError]]:
    """Do something for many hosts at once; gives each result as soon as it is there."""
    with ThreadPoolExecutor(max_workers=parallel, thread_name_prefix="deploy") as pool:
        begun = {pool.submit(act, item): item for item in items}
        for done in as_completed(begun):
            error = done.exception()
            if error is None:
                yield begun[done], done.result()
            elif isinstance(error, SendenseError):
                yield begun[done], error
            else:
                raise error


class _Deployment:
    """One host while it is deployed to."""

    def __init__(self, hand: RemoteHand, plan: DeploymentPlan, control: ControlSide) -> None:
        self._hand = hand
        self._plan = plan
        self._control = control
        self._public_key = ""
        self._asked_in = False
        self._enrolment: Enrolment | None = None
        self.heartbeat: Heartbeat | None = None

    def take(self, kind: StepKind) -> None:
        """Take one step."""
        acts: dict[StepKind, Callable[[], object]] = {
            StepKind.UNDO: self._undo,
            StepKind.PACKAGES: self._packages,
            StepKind.REMEMBER: lambda: self._ask("remember"),
            StepKind.INSTALL: self._install,
            StepKind.KEY: self._key,
            StepKind.ENROL: self._enrol,
            StepKind.SETTINGS: self._settings,
            StepKind.SWITCH: lambda: self._ask("switch", name=self._plan.bundle.name),
            StepKind.START: lambda: self._ask("start"),
            StepKind.WAIT: self._wait,
            StepKind.FORGET: lambda: self._ask("forget"),
        }
        acts[kind]()

    def take_back(self, cause: BaseException) -> None:
        """Give the host what it had; the cause is what the caller hears."""
        log.warning("the deployment to %s is taken back: %s", self._hand.access.address, cause)
        try:
            if self._asked_in:
                self._let_in_as_before()
            self._ask("undo")
        except Exception as error:
            log.exception("taking back failed; the next deployment does it")
            cause.add_note(f"taking it back failed too: {error}; the next deployment does it")

    def _ask(self, operation: str, **content: Any) -> dict[str, Any]:
        return self._hand.ask(operation, **content)

    def _undo(self) -> None:
        self._ask("undo")

    def _packages(self) -> None:
        found = self._plan.preflight
        self._hand.ask(
            "packages", names=list(found.packages), tool=found.tool, timeout_s=_PACKAGES_S
        )

    def _install(self) -> None:
        bundle = self._plan.bundle
        self._ask("install", name=bundle.name, sha256=bundle.sha256, bundle=as_text(bundle.data))

    def _key(self) -> None:
        answer = self._ask("key", renew=self._plan.config.renew_key)
        self._public_key = str(answer["public"])

    def _let_in_as_before(self) -> None:
        try:
            self._control.restore(self._plan.config.id)
        except NotFound as error:
            # The question never came there, so nothing was changed.
            log.info("nothing to take back at the control plane: %s", error)

    def _enrol(self) -> None:
        # Before the answer: one that is lost on its way has changed the host's entry as well.
        self._asked_in = True
        self._enrolment = self._control.enrol(self._plan.config.id, self._public_key)

    def _settings(self) -> None:
        if self._enrolment is None:
            raise TypeError("settings are written after the enrolment")
        self._ask("settings", files=files_of(self._plan, self._enrolment))

    def _wait(self) -> None:
        """Wait for an answer of the new agent, through everything between it and us."""
        begun = clock.monotonic()
        while clock.monotonic() - begun < HEARTBEAT_S:
            self.heartbeat = self._control.heartbeat(self._plan.config.id)
            if self.heartbeat is not None:
                return
            clock.sleep(_LOOK_S)
        service = self._ask("service")
        raise Stalled(
            f"the agent on {self._hand.access.address} is {service['state']}, and was not heard "
            f"of in {HEARTBEAT_S:.0f} s: {service['log']}",
            hint="look for what is between it and the gateway; the host is as it was before",
        )

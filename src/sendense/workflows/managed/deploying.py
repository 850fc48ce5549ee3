"""Bringing agents to hosts, upgrading and removing them: the control plane's side of a deployment.

The steps on the host are :mod:`sendense.fleet.deploy`'s.  Here is who the agent is to the control
plane before, during and after: enrolled anew before it starts, let in again with what it had
where the deployment fails.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from sendense import clock
from sendense.errors import NotFound, SendenseError
from sendense.fleet.bundle import build_bundle
from sendense.fleet.deploy import Deployed, Report, deploy, remove
from sendense.fleet.deploy_plan import AgentConfig, DeploymentPlan, plan_deployment
from sendense.fleet.preflight import Preflight, examine
from sendense.fleet.ssh import Access, RemoteHand
from sendense.model.agent_status import Heartbeat
from sendense.model.enrolment import Enrolment
from sendense.model.secret import Secret
from sendense.workflows.managed.enrolling import Desk, enrol, new_secret
from sendense.workflows.managed.estate import Estate

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Turn:
    """What one enrolment gives a host, and what it takes from it."""

    secret: Secret
    before: tuple[str, Secret] | None
    """Key and secret that let it in until then, if any did."""


class CatalogSide:
    """A :class:`~sendense.fleet.deploy.ControlSide`, where the catalogue and the gateway are."""

    def __init__(self, estate: Estate, desk: Desk) -> None:
        """Enrol at ``desk``."""
        self._estate = estate
        self._desk = desk
        self._turns: dict[str, _Turn] = {}

    def enrol(self, agent: str, public_key: str) -> Enrolment:
        """Let the agent in with this key and a new secret, in place of what it had."""
        turn = _Turn(new_secret(), self._known(agent))
        # Before it is done: what fails in the middle is taken back too.
        self._turns[agent] = turn
        return enrol(self._estate.catalog, self._desk, agent, public_key, turn.secret)

    def restore(self, agent: str) -> None:
        """Let it in with what it had before, or not at all; may be repeated.

        A host that was revoked, or enrolled by somebody else, since then stays so.
        """
        turn = self._turns.get(agent)
        if turn is None:
            return
        hosts = self._estate.catalog.hosts
        if not hosts.take_enrolment_back(agent, turn.secret, turn.before, clock.now()):
            log.info("host %s is not let in with what this deployment gave it; left so", agent)
        self._desk.let_in()

    def heartbeat(self, agent: str) -> Heartbeat | None:
        """Ask the agent how it is; none if it cannot be reached, or refuses us."""
        try:
            with self._estate.agent(agent) as client:
                return client.heartbeat()
        except SendenseError as error:
            log.debug("agent %s: %s", agent, error)
            return None

    def _known(self, agent: str) -> tuple[str, Secret] | None:
        hosts = self._estate.catalog.hosts
        host = hosts.get(agent)
        if not host.public_key or host.enrolled_at is None or host.revoked_at is not None:
            return None
        try:
            return host.public_key, hosts.ticket_secret(agent)
        except NotFound:
            return None


def look_at_host(access: Access, desk: Desk) -> Preflight:
    """Look at a host before a deployment; nothing there is touched."""
    with RemoteHand(access) as hand:
        return examine(hand, (desk.gateway.host, desk.gateway.port))


def deploy_host(
    access: Access,
    config: AgentConfig,
    side: CatalogSide,
    desk: Desk,
    *,
    show: Callable[[DeploymentPlan], None] = lambda _plan: None,
    report: Report = lambda _step: None,
) -> Deployed:
    """Look at a host, show the plan, carry it out."""
    with RemoteHand(access) as hand:
        preflight = examine(hand, (desk.gateway.host, desk.gateway.port))
        plan = plan_deployment(preflight, config, build_bundle())
        show(plan)
        return deploy(hand, plan, side, report)


def remove_host(access: Access, host_id: str, estate: Estate, desk: Desk) -> tuple[str, ...]:
    """Take our bitmaps off all machines of a host, then the agent off it; gives what stayed."""
    left: list[str] = []

    def release() -> None:
        left.extend(release_all(estate, host_id))

    with RemoteHand(access) as hand:
        remove(hand, release)
    estate.catalog.hosts.revoke(host_id, clock.now())
    desk.let_in()
    return tuple(left)


def release_all(estate: Estate, host_id: str) -> tuple[str, ...]:
    """Take our bitmaps off all machines of a host; gives what stayed, and why."""
    left = []
    with estate.agent(host_id) as client:
        for machine in client.machines():
            try:
                client.release(machine.uuid)
            except SendenseError as error:
                # A machine that resists must not keep the agent on the host.
                log.warning("bitmaps of %s stay: %s", machine.name, error)
                left.append(f"{machine.name}: {error.message}")
    return tuple(left)

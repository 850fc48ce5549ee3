"""A simulated cloud that a server knows, and people who sign in with what it knows them by."""

from __future__ import annotations

from contextlib import contextmanager

from sendense.cloudstack.transport import Limits
from sendense.model.cloud import CloudKeys
from sendense.model.secret import Secret
from sendense.server.cloud_doors import CloudDoors
from sendense.settings import Settings
from sendense.workflows.managed.cloud_sync import look_at_cloud
from sendense.workflows.managed.clouds import CloudClients
from sendense.workflows.managed.estate import Estate
from sendense_lab.simulator import seed
from sendense_lab.simulator.simulator import Simulator
from tests.support.clouds import a_cloud

PLACE = "/login/cloudstack"


class Cloud:
    """A simulated cloud, and the server that knows it as `west`."""

    def __init__(self, simulator, site) -> None:
        self.simulator = simulator
        self.site = site
        # The pace that spares a real management server would be most of a test's time.
        clients = CloudClients(Limits(per_second=1000))
        self.estate = Estate(site.catalog, Settings(), clouds=clients)
        site.services.clouds = CloudDoors(self.estate, lambda *_: None)
        keys = CloudKeys(simulator.admin_keys.api_key, Secret(simulator.admin_keys.secret))
        self.id = site.catalog.clouds.add(a_cloud("west", endpoint=simulator.url), keys).id

    def look(self) -> None:
        """Read all of it."""
        look_at_cloud(self.estate, self.id)

    def log_in(self, keys, cloud="west"):
        """Sign in over the API; gives the answer."""
        body = {"cloud": cloud, "api_key": keys[0], "secret_key": keys[1]}
        return self.site.client(None).post(PLACE, json=body)

    def by_password(self, user, password, domain="", cloud="west"):
        """Sign in with a name and a password; gives the answer."""
        body = {"cloud": cloud, "user": user, "password": password}
        body |= {"domain": domain} if domain else {}
        return self.site.client(None).post(f"{PLACE}/password", json=body)

    def as_user(self, keys):
        """Sign in, and give a client with the token and the user's entry."""
        return self.let_in(self.log_in(keys))

    def let_in(self, answer):
        """Give a client with the token of an answer, and the user's entry."""
        assert answer.status_code == 201, answer.text
        made = answer.json()
        return self.site.client(token=made["token"]), self.site.catalog.users.get(made["user"])

    def project(self, name, owner, *members):
        """Make a project."""
        with self.simulator.world.lock:
            project = seed.add_project(self.simulator.world, name, owner, name)
            project.member_ids.extend(each.id for each in members)
            return project


@contextmanager
def clouds(site, **how):
    """Give a cloud on paper."""
    with Simulator(**{"job_s": 0.02, **how}) as simulator:
        cloud = Cloud(simulator, site)
        try:
            yield cloud
        finally:
            cloud.estate.clouds.close()

"""A simulated CloudStack, and clients of it."""

from contextlib import ExitStack
from dataclasses import replace

import pytest

from sendense.cloudstack.client import CloudClient
from sendense.cloudstack.transport import Limits
from sendense.model.secret import Secret
from sendense_lab.simulator.simulator import Simulator
from tests.support.catalogs import catalog_at, sqlite_urls
from tests.support.cloud_place import Place, RawPlace
from tests.support.raw_cloud import raw_cloud

LIMITS = Limits(per_second=2000)
QUICK = Limits(per_second=1000, connect_s=10, silent_s=20)
SECRET = Secret("very-secret-key")


@pytest.fixture
def site():
    """Give what starts simulators (``version=...``) and makes clients of them."""
    with ExitStack() as opened:

        class Site:
            def cloud(self, **how):
                return opened.enter_context(Simulator(**{"job_s": 0.02, **how}))

            def client(self, cloud, keys=None, *, limits=LIMITS):
                api_key, secret = keys or cloud.admin_keys
                client = CloudClient(
                    cloud.url, api_key, Secret(secret), name="berlin", limits=limits
                )
                opened.callback(client.close)
                return client

        yield Site()


@pytest.fixture
def serve():
    """Give a server and a client of it for an answering function."""

    def start(answer, *, limits=QUICK, patience_s=20.0):
        cloud, endpoint = opened.enter_context(raw_cloud(answer))
        bounds = replace(limits, patience_s=patience_s)
        client = CloudClient(endpoint, "the-api-key", SECRET, name="berlin", limits=bounds)
        opened.callback(client.close)
        return cloud, client

    with ExitStack() as opened:
        yield start


@pytest.fixture
def place():
    with ExitStack() as opened:
        new_url = opened.enter_context(sqlite_urls())
        cloud = opened.enter_context(Simulator(job_s=0.02))
        made = Place(cloud, opened.enter_context(catalog_at(new_url())))
        opened.callback(made.estate.clouds.close)
        yield made


@pytest.fixture
def raw():
    with ExitStack() as opened:
        new_url = opened.enter_context(sqlite_urls())
        yield opened.enter_context(RawPlace(opened.enter_context(catalog_at(new_url()))))

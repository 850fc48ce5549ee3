"""The client against a management server that is strict: signatures, roles, jobs, faults."""

from urllib.parse import urlsplit

import pytest

from sendense.cloudstack import actions, checkup, inventory, permissions, webhook
from sendense.cloudstack.client import CloudClient
from sendense.cloudstack.refusals import Lost
from sendense.cloudstack.transport import Limits
from sendense.errors import NotAllowed, NotFound, Rejected, Unavailable, Unsupported
from sendense.model.secret import Secret
from tests.support.raw_cloud import Raw, raw_cloud, refused

VERSIONS = ("4.18", "4.19", "4.20", "4.21", "4.22", "4.23")


@pytest.mark.parametrize("version", VERSIONS)
def test_what_each_version_can_do(site, version):
    features = site.client(site.cloud(version=version)).features()
    assert features.version.startswith(version)
    assert features.admin
    assert features.has("importVm") == (version >= "4.19")
    assert features.has("createWebhook") == (version >= "4.20")
    assert features.takes("deployVirtualMachine", "volumeid") == (version >= "4.21")
    lacking = permissions.missing(features, permissions.READ)
    assert [one.permission.api for one in lacking if not one.permission.optional] == []


def test_a_command_that_the_version_does_not_have(site):
    client = site.client(site.cloud(version="4.18"))
    with pytest.raises(Unsupported, match="does not know importVm") as error:
        client.call("importVm", name="x")
    assert "the key is good" in str(error.value.hint)


def test_a_command_that_the_role_does_not_have(site):
    cloud = site.cloud()
    client = site.client(cloud, cloud.create_account("bob"))
    with pytest.raises(NotAllowed) as error:
        client.call("listHosts")
    assert error.value.data["cs_code"] == 432
    assert "allow listHosts to the role of this key" in str(error.value.hint)


def test_a_key_that_is_wrong(site):
    cloud = site.cloud()
    client = site.client(cloud, (cloud.admin_keys.api_key, "not the secret"))
    with pytest.raises(NotAllowed, match="does not accept the key"):
        client.call("listZones")


@pytest.mark.parametrize("skew_s", [-3600.0, 3600.0])
def test_a_clock_that_is_wrong_where_time_stamps_are_demanded(site, skew_s):
    cloud = site.cloud(version="4.22", settings={"enforce.post.requests.and.timestamps": "true"})
    cloud.clock_skew_s = skew_s
    client = site.client(cloud)
    assert client.ping().startswith("4.22")
    assert client.skew_s == pytest.approx(skew_s, abs=30)
    assert len(client.warnings) == 1


def test_control_characters_and_odd_envelopes(site):
    cloud = site.cloud()
    vm = cloud.add_instance("web", display_name="tab\there \x01 ~*é")
    found, _ = inventory.instance(site.client(cloud), vm.id)
    assert found.display_name == "tab\there \x01 ~*é"


@pytest.mark.parametrize("fault", ["throttle", "half_written", "html", "reset"])
def test_a_bad_moment_is_stood(site, fault):
    cloud = site.cloud()
    cloud.add_instance("web")
    client = site.client(cloud)
    client.features()
    getattr(cloud.faults, fault)(2, command="listVolumes")
    assert [one.name for page in inventory.instances(client) for one, _ in page] == ["web"]


def test_a_lost_reply_of_a_job_does_nothing_twice(site):
    cloud = site.cloud()
    vm = cloud.add_instance("web", running=False)
    client = site.client(cloud)
    cloud.faults.reset(1, command="createVolume")
    found = actions.create_volume(
        client,
        name="new",
        zone_id=vm.zone_id,
        offering_id=custom_offering(client),
        size=1 << 30,
        owner=inventory.instance(client, vm.id)[0].owner,
    )
    assert [row["id"] for row in client.call("listVolumes", name="new")["volume"]] == [found]


def test_a_lost_reply_of_what_is_no_job_is_told(site):
    cloud = site.cloud()
    vm = cloud.add_instance("web", running=False)
    client = site.client(cloud)
    cloud.faults.reset(1, command="updateVirtualMachine")
    with pytest.raises(Lost):
        actions.update(client, vm.id, displayname="other")


def test_a_restart_of_the_management_server_is_told_as_that(site):
    cloud = site.cloud(job_s=60.0)
    vm = cloud.add_instance("web")
    client = site.client(cloud)
    job = client.start("stopVirtualMachine", id=vm.id)
    cloud.restart()
    with pytest.raises(Unavailable, match="management server restart") as error:
        client.wait(job)
    assert error.value.retryable


def test_a_server_that_goes_away_and_comes_back(site):
    cloud = site.cloud()
    client = site.client(cloud)
    assert client.ping()
    cloud.down()
    quick = CloudClient(
        client.endpoint,
        cloud.admin_keys.api_key,
        Secret(cloud.admin_keys.secret),
        limits=Limits(patience_s=0),
    )
    with pytest.raises(Unavailable):
        quick.ping()
    quick.close()
    cloud.up()
    assert client.ping()


def test_the_role_that_is_printed_is_enough_to_read_and_for_nothing_else(site):
    """The rules of the commands, given to the simulator as CloudMonkey would."""
    cloud = site.cloud()
    admin = site.client(cloud)
    printed = permissions.cloudmonkey_role("Sendense read")
    role = admin.call("createRole", name="Sendense read", type="Admin")["role"]["id"]
    rules = [line for line in printed.splitlines() if "rolepermission" in line]
    for line in rules:
        fields = dict(part.split("=", 1) for part in line.split() if "=" in part)
        admin.call(
            "createRolePermission",
            roleid=role,
            rule=fields["rule"].strip("'"),
            permission=fields["permission"],
        )
    keys = cloud.create_account("sendense", role="Sendense read")
    cloud.add_instance("web", disks=(1 << 30,))
    client = site.client(cloud, keys)
    features = client.features(again=True)
    assert permissions.missing(features, permissions.READ) == ()
    assert permissions.too_many(features, permissions.READ) == ()
    [[(found, _)]] = list(inventory.instances(client))
    # A role of type Admin still sees where things are.
    assert found.host_id
    assert all(disk.path for disk in found.volumes)
    with pytest.raises(NotAllowed) as error:
        actions.stop(client, found.id)
    assert error.value.data["cs_code"] == 432
    lacking = permissions.missing(features, permissions.RESTORE)
    assert "stopVirtualMachine: stop what is restored in place" in [one.words for one in lacking]


def custom_offering(client):
    pages = inventory.disk_offerings(client)
    return next(one.id for page in pages for one in page if one.customized)


# --- Actions


def test_stop_and_start(site):
    cloud = site.cloud()
    vm = cloud.add_instance("web")
    client = site.client(cloud)
    actions.stop(client, vm.id)
    assert actions.state(client, vm.id) == "Stopped"
    assert actions.busy_jobs(client, vm.id) == []
    actions.start(client, vm.id)
    assert actions.state(client, vm.id) == "Running"
    assert actions.state(client, "00000000-0000-4000-8000-000000000000") == ""


def test_what_works_on_an_instance(site):
    cloud = site.cloud(job_s=120.0)
    vm, other = cloud.add_instance("web"), cloud.add_instance("db")
    client = site.client(cloud)
    job = client.start("stopVirtualMachine", id=vm.id)
    [busy] = actions.busy_jobs(client, vm.id, other.id)
    assert (busy.id, busy.object_id) == (job.job_id, vm.id)
    assert busy.command.lower().startswith("stopv")
    assert actions.busy_jobs(client, other.id) == []
    cloud.restart()


def test_a_volume_is_made_attached_and_detached(site):
    cloud = site.cloud()
    vm = cloud.add_instance("web", running=False)
    client = site.client(cloud)
    seen, _ = inventory.instance(client, vm.id)
    key = actions.create_volume(
        client,
        name="data",
        zone_id=seen.zone_id,
        offering_id=custom_offering(client),
        size=(1 << 30) + 1,
        owner=seen.owner,
    )
    attached = actions.attach(client, key, vm.id, device_id=4)
    assert attached.id == key
    now = {disk.id: disk for disk in inventory.instance(client, vm.id)[0].volumes}[key]
    assert now.device_id == 4
    # In whole GiB, and never less than was asked for.
    assert now.size == 2 << 30
    actions.detach(client, key)
    assert actions.volume(client, key).instance_id == ""
    with pytest.raises(NotFound):
        actions.volume(client, "00000000-0000-4000-8000-000000000000")


def test_the_device_of_the_iso_is_refused(site):
    with pytest.raises(Rejected, match="device 3"):
        actions.attach(site.client(site.cloud()), "v", "i", device_id=3)


def test_tags_come_and_go(site):
    cloud = site.cloud()
    vm = cloud.add_instance("web", tags={"tier": "gold"})
    client = site.client(cloud)
    actions.tag(client, vm.id, {"restore": "going on"})
    assert inventory.instance(client, vm.id)[0].tags == {"tier": "gold", "restore": "going on"}
    for _ in range(2):
        actions.untag(client, vm.id, ["restore", "never there"])
    assert inventory.instance(client, vm.id)[0].tags == {"tier": "gold"}


def test_an_instance_is_deployed_as_another_was(site):
    cloud = site.cloud()
    vm = cloud.add_instance("web", disks=(1 << 30,))
    client = site.client(cloud)
    seen, _ = inventory.instance(client, vm.id)
    cards = [actions.Card(nic.network_id, "02:00:7c:01:02:03", "") for nic in seen.nics]
    key = actions.deploy(
        client,
        actions.NewInstance(
            name="web-again",
            zone_id=seen.zone_id,
            offering_id=seen.offering_id,
            template_id=seen.template_id,
            owner=seen.owner,
            cards=cards,
            details={"rootDiskController": "scsi"},
            user_data=Secret("aGVsbG8="),
        ),
    )
    made, secrets = inventory.instance(client, key)
    assert made.name == "web-again"
    assert made.state == "Running"
    assert [nic.mac for nic in made.nics] == ["02:00:7c:01:02:03"]
    assert secrets.details["rootDiskController"] == Secret("scsi")
    assert secrets.user_data == Secret("aGVsbG8=")
    assert "aGVsbG8=" not in repr((made, secrets))


# --- A look at a cloud


def test_a_cloud_that_is_fine(site):
    report = checkup.look(site.client(site.cloud()))
    assert report.version.startswith("4.20")
    assert report.good_to_read
    assert report.good_to_restore
    assert report.missing_webhooks == ()
    # An administrator's own key may do more than is needed.
    assert "createRole" in report.beyond


def test_the_key_of_a_tenant_is_not_enough(site):
    cloud = site.cloud(version="4.18")
    report = checkup.look(site.client(cloud, cloud.create_account("bob")))
    assert not report.good_to_read
    assert "listHosts" in [one.permission.api for one in report.missing]
    assert "importVolume" in [one.permission.api for one in report.missing_restore]
    assert any("without their hosts" in one for one in report.warnings)
    assert report.good_to_restore


def test_a_second_key_for_restores(site):
    cloud = site.cloud()
    report = checkup.look(site.client(cloud), site.client(cloud, cloud.create_account("bob")))
    assert report.good_to_read
    assert report.good_to_restore
    assert "startVirtualMachine" in report.beyond


def test_a_port_that_lets_anybody_in():
    capable = Raw(b'{"listcapabilitiesresponse": {"capability": {}}}')
    with raw_cloud(lambda form: capable, get=True) as (_, endpoint):
        assert checkup.has_open_integration_port("127.0.0.1", urlsplit(endpoint).port or 0)
    with raw_cloud(lambda form: refused("listCapabilities", 401), get=True) as (_, endpoint):
        assert not checkup.has_open_integration_port("127.0.0.1", urlsplit(endpoint).port or 0)
    assert not checkup.has_open_integration_port("127.0.0.1", 1)


def test_a_stranger_at_that_port_is_not_read_to_its_end():
    much = Raw(b"x" * 100_000, length=1 << 40)
    with raw_cloud(lambda form: much, get=True) as (_, endpoint):
        assert not checkup.has_open_integration_port("127.0.0.1", urlsplit(endpoint).port or 0)


@pytest.mark.parametrize(
    ("version", "old"), [("4.17.2.0", True), ("4.18.0.0", False), ("5.0", False), ("", False)]
)
def test_versions(version, old):
    assert checkup.too_old(version) == old


# --- Messages


def test_a_webhook_of_the_cloud_is_one_that_we_take(site):
    cloud = site.cloud()
    vm = cloud.add_instance("web")
    client = site.client(cloud)
    got = []

    def take(body, headers):
        got.append((body, headers))
        return Raw(b"")

    with raw_cloud(lambda form: Raw(b""), take=take) as (_, endpoint):
        client.call(
            "createWebhook",
            name="us",
            payloadurl=endpoint,
            scope="Global",
            secretkey=Secret("shared"),
        )
        actions.stop(client, vm.id)
        with cloud.world.changed:
            assert cloud.world.changed.wait_for(
                lambda: any(one.event == "VM.STOP" for one in cloud.webhooks.sent), timeout=60
            )
        cloud.webhooks.close()
    stops = [(b, h) for b, h in got if h[webhook.EVENT] == "VM.STOP"]
    assert stops
    for body, headers in stops:
        assert webhook.check_signature(body, headers[webhook.SIGNATURE], Secret("shared"))
        assert not webhook.check_signature(body, headers[webhook.SIGNATURE], Secret("other"))
        hint = webhook.parse(body, headers)
        assert hint.instance_ids == (vm.id,)
        assert hint.of_instances

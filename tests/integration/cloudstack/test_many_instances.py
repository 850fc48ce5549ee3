"""Ten thousand instances are read in the memory of a page of them and a map of their volumes."""

import json
import subprocess
import sys

from tests.support.raw_cloud import raw_cloud

INSTANCES = 10_000
MIB = 1024 * 1024

READER = """
import json, sys
from sendense.cloudstack import inventory
from sendense.cloudstack.client import CloudClient
from sendense.cloudstack.transport import Limits
from sendense.model.secret import Secret

def most():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

client = CloudClient(sys.argv[1], "key", Secret("secret"), limits=Limits(per_second=2000))
client.features()
before = most()
count = disks = 0
for page in inventory.instances(client):
    count += len(page)
    disks += sum(len(one.volumes) for one, _ in page)
client.close()
print(json.dumps({"count": count, "disks": disks, "grown": most() - before}))
"""


def uuid(kind, number):
    return f"{kind:08x}-0000-4000-8000-{number:012x}"


def owner(number):
    return {"domainid": uuid(1, number % 50), "domain": f"d{number % 50}", "account": "acme"}


def vm(number):
    return {
        "id": uuid(2, number),
        "name": f"vm-{number:05}",
        "displayname": f"Instance number {number}",
        "state": "Running",
        "zoneid": uuid(3, 0),
        "instancename": f"i-2-{number}-VM",
        "details": {"rootDiskController": "virtio", "password": f"secret-{number}"},
        "userdata": f"{number:08}" * 250,
        "nic": [
            {"id": uuid(4, number), "networkid": uuid(5, 0), "macaddress": "02:00:00:00:00:01"}
        ],
        "tags": [{"key": "tier", "value": "gold"}],
        "memory": 1024,
        "cpunumber": 2,
        **owner(number),
    }


def disk(number):
    return {
        "id": uuid(6, number),
        "name": f"DATA-{number}",
        "type": "ROOT" if number % 2 == 0 else "DATADISK",
        "state": "Ready",
        "size": 1 << 30,
        "deviceid": number % 2,
        "path": uuid(6, number),
        "storageid": uuid(7, number % 3),
        "storage": f"pool{number % 3}",
        "virtualmachineid": uuid(2, number // 2),
        "zoneid": uuid(3, 0),
        **owner(number // 2),
    }


LISTS = {
    "listVirtualMachines": ("virtualmachine", INSTANCES, vm),
    "listVolumes": ("volume", 2 * INSTANCES, disk),
}
APIS = [
    {"name": name, "params": [{"name": "userdata"}]}
    for name in (*LISTS, "listDomains", "listCapabilities")
]


def answer(form):
    command = form["command"]
    if command == "listApis":
        return {"count": len(APIS), "api": APIS}
    if command not in LISTS:
        return {}
    key, count, make = LISTS[command]
    size = int(form["pagesize"])
    start = (int(form["page"]) - 1) * size
    return {
        "count": count,
        key: [make(number) for number in range(start, min(start + size, count))],
    }


def test_ten_thousand_instances():
    with raw_cloud(answer) as (cloud, endpoint):
        done = subprocess.run(
            [sys.executable, "-c", READER, endpoint], check=True, capture_output=True, text=True
        )
    told = json.loads(done.stdout)
    print(told)
    assert (told["count"], told["disks"]) == (INSTANCES, 2 * INSTANCES)
    # Their user data alone is 20 MB, in pages that are held one at a time.
    assert told["grown"] < 64 * MIB
    # A page each, and none for a single instance.
    assert cloud.commands.count("listVirtualMachines") == INSTANCES // 200
    assert cloud.commands.count("listVolumes") == 2 * INSTANCES // 500

"""What is around instances, out of rows of the API: zones, hosts, pools, networks, offerings ..."""

from __future__ import annotations

from sendense.cloudstack.answers import Row, flag, number, text
from sendense.cloudstack.mapping import Paths, owner, word
from sendense.model.cloud import (
    CloudAccount,
    CloudDomain,
    CloudHost,
    CloudNetwork,
    CloudOffering,
    CloudPool,
    CloudProject,
    CloudTemplate,
    CloudZone,
)
from sendense.units import GIB, MIB


def zone(row: Row) -> CloudZone:
    """Read a zone."""
    return CloudZone(
        id=text(row, "id"),
        name=text(row, "name"),
        network_type=text(row, "networktype"),
        security_groups=flag(row.get("securitygroupsenabled")),
        local_storage=flag(row.get("localstorageenabled")),
    )


def host(row: Row) -> CloudHost:
    """Read a host, without its ``details``: there may be passwords in them."""
    return CloudHost(
        id=text(row, "id"),
        name=text(row, "name"),
        address=text(row, "ipaddress"),
        state=text(row, "state"),
        resource_state=text(row, "resourcestate"),
        kind=text(row, "type"),
        hypervisor=text(row, "hypervisor"),
        zone_id=text(row, "zoneid"),
        cluster_id=text(row, "clusterid"),
        version=text(row, "version"),
        hypervisor_version=text(row, "hypervisorversion"),
    )


def pool(row: Row) -> CloudPool:
    """Read a primary storage."""
    return CloudPool(
        id=text(row, "id"),
        name=text(row, "name"),
        kind=text(row, "type"),
        # Recorded answers have a blank behind it.
        path=text(row, "path").strip(),
        address=text(row, "ipaddress"),
        scope=text(row, "scope"),
        state=text(row, "state"),
        zone_id=text(row, "zoneid"),
        cluster_id=text(row, "clusterid"),
        size=number(row.get("disksizetotal")),
        used=number(row.get("disksizeused")),
    )


def network(row: Row, paths: Paths) -> CloudNetwork:
    """Read a guest network; one of nobody (shared by all) has no owner."""
    mine = text(row, "account") or text(row, "projectid")
    return CloudNetwork(
        id=text(row, "id"),
        name=text(row, "name"),
        zone_id=text(row, "zoneid"),
        kind=text(row, "type"),
        owner=owner(row, paths) if mine else None,
        state=text(row, "state"),
        cidr=text(row, "cidr"),
        vpc_id=text(row, "vpcid"),
    )


def service_offering(row: Row) -> CloudOffering:
    """Read an offering of processors and memory."""
    return CloudOffering(
        id=text(row, "id"),
        name=text(row, "name"),
        customized=flag(row.get("iscustomized")),
        cpus=number(row.get("cpunumber")),
        cpu_mhz=number(row.get("cpuspeed")),
        memory_bytes=number(row.get("memory")) * MIB,
        disk_bytes=number(row.get("rootdisksize")) * GIB,
        zone_ids=_ids(row, "zoneid"),
        domain_ids=_ids(row, "domainid"),
        state=text(row, "state"),
    )


def disk_offering(row: Row) -> CloudOffering:
    """Read an offering of disks."""
    return CloudOffering(
        id=text(row, "id"),
        name=text(row, "name"),
        customized=flag(row.get("iscustomized")),
        disk_bytes=number(row.get("disksize")) * GIB,
        zone_ids=_ids(row, "zoneid"),
        domain_ids=_ids(row, "domainid"),
        state=text(row, "state"),
    )


def template(row: Row) -> CloudTemplate:
    """Read a template in a zone."""
    return CloudTemplate(
        id=text(row, "id"),
        name=text(row, "name"),
        zone_id=text(row, "zoneid"),
        hypervisor=text(row, "hypervisor"),
        format=text(row, "format"),
        os_type_id=text(row, "ostypeid"),
        ready=flag(row.get("isready")),
        size=number(row.get("size")),
        boot_type=text(row, "boottype"),
    )


def domain(row: Row) -> CloudDomain:
    """Read a domain."""
    return CloudDomain(
        id=text(row, "id"),
        name=text(row, "name"),
        path=text(row, "path", "name"),
        parent_id=text(row, "parentdomainid"),
    )


def account(row: Row, paths: Paths) -> CloudAccount:
    """Read an account."""
    domain_id = word(row, "domainid")
    return CloudAccount(
        id=text(row, "id"),
        name=text(row, "name"),
        domain_id=domain_id,
        domain=text(row, "domainpath") or paths.get(domain_id, "") or text(row, "domain"),
        kind=number(row.get("accounttype")),
        state=text(row, "state"),
    )


def project(row: Row, paths: Paths) -> CloudProject:
    """Read a project."""
    domain_id = word(row, "domainid")
    return CloudProject(
        id=text(row, "id"),
        name=text(row, "name"),
        domain_id=domain_id,
        domain=paths.get(domain_id, "") or text(row, "domain"),
        state=text(row, "state"),
    )


def _ids(row: Row, key: str) -> tuple[str, ...]:
    """Read a list of ids that is one text with commas between."""
    return tuple(part.strip() for part in text(row, key).split(",") if part.strip())

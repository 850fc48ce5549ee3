"""Names in a request for a restore into a cloud, told to be ids.

People name volumes, networks and offerings as they see them.  What is an id stays; a name that one
thing has becomes its id; a name of several is refused with their ids.  What is unknown stays as it
is, and the plan says that it is not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from sendense.errors import Rejected
from sendense.model.ascend import AscendRequest, CloudView
from sendense.model.cloud import CloudDomain, CloudProject, CloudVolume, Owner
from sendense.model.cloud_manifest import CloudManifest
from sendense.model.places import target_of

ROOT = "root"
"""The root volume of the point, whatever it is called."""
EVERY = "*"
"""All data volumes of the point."""


class Named(Protocol):
    """Something that a cloud has."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def name(self) -> str:
        """Its name."""


def id_of(word: str, things: Iterable[Named], what: str) -> str:
    """Give the id that a word means."""
    known = {thing.id: thing.name for thing in things}
    if word in known:
        return word
    found = sorted(key for key, name in known.items() if name == word)
    if len(found) > 1:
        raise Rejected(
            f"{len(found)} {what}s are called {word}", hint=f"name one by its id: {found[:5]}"
        )
    return found[0] if found else word


def with_ids(manifest: CloudManifest, view: CloudView, request: AscendRequest) -> AscendRequest:
    """Give a request that names all by id."""
    was, now = manifest.instance, view.instance
    zone_id = id_of(request.zone_id, view.zones, "zone")
    here = zone_id or was.zone_id
    networks = [network for network in view.networks if network.zone_id == here]

    def volume(word: str) -> str:
        if word.lower() == ROOT:
            return next((each.id for each in was.volumes if each.kind == "ROOT"), word)
        seen = [each.id for each in was.volumes if _target(each) == word]
        return seen[0] if seen else id_of(word, was.volumes, "volume")

    cards = {nic.network: nic.network_id for nic in was.nics}
    offerings = {each.offering: each.offering_id for each in was.volumes if each.offering}
    return replace(
        request,
        volumes=tuple(volume(word) for word in request.volumes),
        onto={
            volume(word): id_of(target, now.volumes if now is not None else (), "volume")
            for word, target in request.onto.items()
        },
        zone_id=zone_id,
        offering_id=id_of(request.offering_id, view.service_offerings, "service offering"),
        template_id=id_of(request.template_id, view.templates, "template"),
        pool_id=id_of(request.pool_id, view.pools, "pool"),
        networks={
            cards.get(word, word): id_of(target, networks, "network")
            for word, target in request.networks.items()
        },
        disk_offerings={
            key: id_of(target, view.disk_offerings, "disk offering")
            for word, target in request.disk_offerings.items()
            for key in (
                [each.id for each in was.volumes if each.kind != "ROOT"]
                if word == EVERY
                else [offerings.get(word) or volume(word)]
            )
        },
    )


def _target(volume: CloudVolume) -> str:
    """Give the target that a volume has on the bus that CloudStack chooses."""
    return "" if volume.device_id is None else target_of(volume.device_id)


def owner_of(
    asked: Owner, was: Owner, domains: Iterable[CloudDomain], projects: Iterable[CloudProject]
) -> Owner:
    """Give the owner that words mean: a project by name, or an account in a domain by its path."""
    if asked.project_id or asked.project:
        word = asked.project_id or asked.project
        found = id_of(word, projects, "project")
        return replace(asked, project_id=found, project=asked.project or word)
    if asked.domain_id:
        return asked
    if not asked.domain:
        return replace(asked, domain_id=was.domain_id, domain=was.domain)
    paths: Mapping[str, str] = {domain.path: domain.id for domain in domains}
    return replace(asked, domain_id=paths.get(asked.domain, asked.domain))

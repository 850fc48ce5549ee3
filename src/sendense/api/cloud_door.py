"""The way of the API to the clouds themselves, with the keys that the catalogue has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn, Protocol

from sendense.errors import Unsupported
from sendense.model.cloud_check import CloudCheck, CloudIdentity
from sendense.model.cloud_login import CloudLogin
from sendense.model.secret import Secret


class CloudDoor(Protocol):
    """Asks clouds, and takes what they send."""

    def place(self, endpoint: str, ca_pem: str) -> str:
        """Check where a cloud is to be asked, without asking; gives the endpoint as it is kept."""

    def check(self, cloud_id: str) -> CloudCheck:
        """Ask a cloud how it is, and what its keys may."""

    def role(self, name: str, *, restore: bool, webhooks: bool, cloud_id: str | None = None) -> str:
        """Give the commands of CloudMonkey that make a role; for one cloud, or for any."""

    def webhook(self, cloud_id: str, url: str | None) -> None:
        """Have a cloud send its events to this server; without a URL no longer."""

    def hint(self, cloud_id: str, body: bytes, headers: Mapping[str, str]) -> bool:
        """Take an event that was sent; tells whether it was signed as this cloud signs."""

    def who(self, cloud_id: str, api_key: str, secret: Secret) -> CloudIdentity:
        """Ask a cloud whose keys these are."""

    def who_by_password(self, cloud_id: str, login: CloudLogin) -> CloudIdentity:
        """Ask a cloud whose name and password these are."""


class NoClouds:
    """Where no cloud can be asked: the catalogue is all."""

    def place(self, endpoint: str, ca_pem: str) -> str:
        """Take it as it is."""
        return endpoint

    def check(self, cloud_id: str) -> CloudCheck:
        """Refuse."""
        _refuse(f"cloud {cloud_id} cannot be asked")

    def role(self, name: str, *, restore: bool, webhooks: bool, cloud_id: str | None = None) -> str:
        """Refuse."""
        _refuse(f"the role {name} cannot be described")

    def webhook(self, cloud_id: str, url: str | None) -> None:
        """Refuse."""
        _refuse(f"cloud {cloud_id} cannot be asked")

    def hint(self, cloud_id: str, body: bytes, headers: Mapping[str, str]) -> bool:
        """Take nothing."""
        return False

    def who(self, cloud_id: str, api_key: str, secret: Secret) -> CloudIdentity:
        """Refuse."""
        _refuse(f"cloud {cloud_id} cannot be asked")

    def who_by_password(self, cloud_id: str, login: CloudLogin) -> CloudIdentity:
        """Refuse."""
        _refuse(f"cloud {cloud_id} cannot be asked")


def _refuse(what: str) -> NoReturn:
    raise Unsupported(f"{what}: this server reaches no cloud")

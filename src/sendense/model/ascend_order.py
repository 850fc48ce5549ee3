"""A restore into a cloud as it is asked for, and as the content of the job that carries it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sendense.errors import Rejected
from sendense.model.ascend import AscendRequest
from sendense.model.coding import decode, encode


@dataclass(frozen=True)
class CloudRestore:
    """A point, and what becomes of it in which cloud."""

    repository_id: str
    point_id: str
    request: AscendRequest
    """What it names in the cloud may be ids or names."""
    cloud_id: str = ""
    """Empty: the cloud of the point."""
    continues: str = ""
    """Id of a job that failed and is gone on with; its plan counts then, not this request."""
    tenant: bool = False
    """Asked for by a tenant, who is not told what others have."""

    def to_content(self) -> dict[str, Any]:
        """Give the content of the job."""
        wanted = {
            "id": self.cloud_id,
            "request": encode(self.request),
            "continues": self.continues,
            "tenant": self.tenant,
        }
        return {"point": self.point_id, "cloud": wanted}

    @classmethod
    def of(cls, repository_id: str, content: Mapping[str, Any]) -> CloudRestore:
        """Read the content of a job."""
        wanted = content.get("cloud")
        if not isinstance(wanted, Mapping):
            raise Rejected("this is no restore into a cloud")
        return cls(
            repository_id=repository_id,
            point_id=str(content["point"]),
            request=decode(AscendRequest, wanted["request"]),
            cloud_id=str(wanted.get("id") or ""),
            continues=str(wanted.get("continues") or ""),
            tenant=bool(wanted.get("tenant", False)),
        )

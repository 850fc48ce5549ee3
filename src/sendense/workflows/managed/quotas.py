"""What tenants may store: asked before a backup touches anything.

A quota keeps a tenant from growing, and takes nothing away: the backup that began below it ends,
points stay, restores go on.  So a tenant may be over its quota by one backup of each instance that
ran at that moment.
"""

from __future__ import annotations

from sendense.catalog.catalog import Catalog
from sendense.errors import Rejected


def quota_warnings(catalog: Catalog, uuid: str) -> tuple[str, ...]:
    """Give what is to be said of the quotas of an instance's tenants.

    :class:`~sendense.errors.Rejected` where one is used up; that is not tried again by itself.
    """
    cloud = catalog.instances.name(uuid).cloud
    if cloud is None:
        return ()
    usages = catalog.tenants.usages(cloud)
    for usage in usages:
        if usage.full:
            tenant = usage.tenant
            raise Rejected(
                f"{usage.words}: nothing more is stored for it",
                hint=f"raise it (sendense tenant edit {tenant.name} --quota SIZE), or keep less",
                tenant=tenant.name, stored_bytes=usage.stored_bytes, quota_bytes=tenant.quota_bytes,
            )  # fmt: skip
    return tuple(usage.words for usage in usages if usage.nearly_full)

"""Who may do what: rules, what they decide, and who keeps them."""

from megabroker.core.acls.group_permissions import GroupPermissions
from megabroker.core.acls.service import ACLS_TABLE, Acls, AclSettings

__all__ = ["ACLS_TABLE", "AclSettings", "Acls", "GroupPermissions"]

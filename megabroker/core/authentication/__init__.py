"""Who a client is: passwords (PLAIN, SCRAM, AUTH of cursus) and tokens (OAUTHBEARER), for every wire."""

from megabroker.core.authentication.service import Authentication

__all__ = ["Authentication"]

"""Quotas: how much clients may use, who has used how much, and how long whoever used more has to wait."""

__all__: list[str] = []

"""Every decoder of bytes from outside, fed with real frames that were damaged."""

"""Much at once and for long: what the broker holds stays bounded, and who is well-behaved hardly notices."""

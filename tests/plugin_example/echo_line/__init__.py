"""A line protocol over megabroker, in a distribution of its own."""

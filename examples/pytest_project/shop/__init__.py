"""A shop, as small as it can be."""

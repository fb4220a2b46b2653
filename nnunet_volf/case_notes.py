"""What our own preprocessing stores inside the file of a case beside its voxels."""

from __future__ import annotations

CASE_KEY = "volf"  # where it comes from
LOCATIONS_KEY = "volf_locations"  # voxels that show tissue

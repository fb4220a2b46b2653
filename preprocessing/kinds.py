"""What the kinds of refusal are called in reports; docs/quarantine.md explains each."""

from __future__ import annotations

KIND_TITLES = {
    "ambiguous": "Two images for one channel of a subject",
    "colour": "Colour or vector image",
    "constant": "One value everywhere",
    "derived": "Derived picture, no scan",
    "dimensions": "Not of three dimensions",
    "direction": "Axes that are not at right angles",
    "duplicate": "Same voxels as another image",
    "duplicate-slices": "Several slices at one position",
    "empty": "Empty file",
    "error": "An error nobody expected",
    "grids": "Channels on different grids",
    "incomplete": "Subject without all channels",
    "known": "Occurs in a protected dataset",
    "labels": "A segmentation, no scan",
    "localizer": "Localizer",
    "missing": "Listed, but not there",
    "missing-slices": "Slices are missing",
    "no-pixels": "DICOM file without pixels",
    "non-finite": "NaN or infinite voxels",
    "one-slice": "A single slice",
    "plan": "Its plan cannot be followed",
    "range": "Values beyond the number format",
    "spacing": "Spacing that cannot be true",
    "tilted": "Tilted gantry",
    "timeout": "Took too long to read",
    "too-large": "Larger than can be meant",
    "too-small": "Too small to learn from",
    "truncated": "Cut off",
    "uneven-slices": "Uneven slice positions",
    "unreadable": "Cannot be read",
    "unwritable": "Not written correctly",
    "worker": "The process reading it died",
}

# Kinds that are no fault of an archive: every hospital archive holds some, and leaving them out is right.
EXPECTED_KINDS = frozenset({"derived", "duplicate", "known", "localizer", "no-pixels", "one-slice"})

"""Volume Fusion pretraining for nnU-Net: learn from unlabeled volumes, then fine-tune as usual.

Importing this package is cheap: it loads no torch and no nnU-Net. Import what you need from its modules.
"""

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    """Look the version up when it is asked for: reading metadata costs more than the rest of the import."""
    if name != "__version__":
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)

    from importlib.metadata import version

    return version("nnunet-volf")

"""The nnU-Net trainers of this package, installed as ``nnunet_volf.trainers``.

nnU-Net imports the files of this folder one by one as top-level modules, takes the class it was asked for,
and then removes what it loaded from here from ``sys.modules``. Five rules follow:

1. One trainer class a file; the file is named after the class.
2. Nothing else is defined here. Transforms, loaders and losses live in ``nnunet_volf``: an object of a class
   defined here cannot be sent to a worker process.
3. Absolute imports from ``nnunet_volf`` only: relative ones fail, and there are no helper modules.
4. This ``__init__.py`` is a docstring.
5. A trainer adds no parameter to ``__init__``: nnU-Net reads back its own signature.

``nnUNet_extTrainer`` names this folder, never the repository above it. ``tests/test_trainer_files.py`` holds
every file against these rules, and ``tests/test_discovery.py`` the folder against nnU-Net's own lookup.
"""

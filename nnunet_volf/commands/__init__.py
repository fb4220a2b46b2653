"""The commands of ``nnunet-volf``, one small module each.

A command module has ``NAME``, ``HELP``, ``add_arguments(parser)`` and ``run(args)``, which returns the exit
code. All of them are imported to print the help, so they import torch and nnU-Net only inside ``run``.
"""

COMMANDS = ("pretrain", "import_archive", "plan", "preprocess", "settings", "preview", "trainers", "doctor")

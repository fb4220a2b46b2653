"""The commands of ``nnunet-volf``, one small module each."""

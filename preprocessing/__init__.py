"""From a folder of unlabeled scans to a preprocessed nnU-Net dataset: ``nnunet_volf.preprocessing``.

The room for auditing an archive, importing it, planning and preprocessing, none of which may need a label.

Modules here may import ``nnunet_volf`` and nnU-Net, and each other. ``nnunet_volf`` never imports this
package; only the commands do, when they run.
"""

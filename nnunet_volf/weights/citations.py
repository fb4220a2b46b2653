"""Whom to cite for weights: the papers of the method that they were pretrained by, and nnU-Net's."""

from __future__ import annotations

from collections.abc import Mapping

from nnunet_volf.pretext.catalogue import method_labelled

NNUNET = (
    "Isensee, F., Jaeger, P. F., Kohl, S. A. A., Petersen, J., & Maier-Hein, K. H. (2021). nnU-Net: a self-configuring "
    "method for deep learning-based biomedical image segmentation. Nature Methods, 18(2), 203-211. "
    "https://doi.org/10.1038/s41592-020-01008-z"
)

# By the name of the method in `pretext.catalogue`; first its own paper, then what our form of it follows.
OF_METHODS: Mapping[str, tuple[str, ...]] = {
    "volf": (
        "Wang, G., Fu, J., Wu, J., Luo, X., Zhou, Y., Liu, X., Li, K., Lin, J., Shen, B., & Zhang, S. (2025). Volume "
        "Fusion-based Self-Supervised Pretraining for 3D Medical Image Segmentation. IEEE Transactions on Image "
        "Processing, 34, 6041-6052. https://doi.org/10.1109/TIP.2025.3610249",
        "Wang, G., Wu, J., Luo, X., Liu, X., Li, K., & Zhang, S. (2023). MIS-FM: 3D Medical Image Segmentation using "
        "Foundation Models Pretrained on a Large-Scale Unannotated Dataset. arXiv:2306.16925.",
    ),
    "mae": (
        "He, K., Chen, X., Xie, S., Li, Y., Dollár, P., & Girshick, R. (2022). Masked Autoencoders Are Scalable Vision "
        "Learners. Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR), "
        "16000-16009. arXiv:2111.06377.",
        "Wald, T., Ulrich, C., Lukyanenko, S., Goncharov, A., Paderno, A., Miller, M., Maerkisch, L., Jaeger, P., & "
        "Maier-Hein, K. (2025). Revisiting MAE Pre-training for 3D Medical Image Segmentation. Proceedings of the "
        "Computer Vision and Pattern Recognition Conference (CVPR), 5186-5196. arXiv:2410.23132.",
    ),
    "voco": (
        "Wu, L., Zhuang, J., & Chen, H. (2024). VoCo: A Simple-yet-Effective Volume Contrastive Learning Framework for "
        "3D Medical Image Analysis. Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition "
        "(CVPR), 22873-22882. arXiv:2402.17300.",
    ),
    "slem": (
        "Wang, N., Lin, S., Qi, F., Chen, Y., Li, K., Shen, Y., & Ma, L. (2025). Self-Supervised Learning for "
        "Multi-Modal Medical Image Segmentation (in Chinese). Journal of Computer-Aided Design & Computer Graphics, "
        "37(3), 474-483. https://doi.org/10.3724/SP.J.1089.2023-00339",
    ),
}


def citations_of(label: str | None) -> tuple[str, ...]:
    """Return the papers of the method that a checkpoint names; none where it is not one of ours."""
    method = method_labelled(label)
    return OF_METHODS[method.name] if method else ()

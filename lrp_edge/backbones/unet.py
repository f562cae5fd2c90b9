"""A U-Net whose encoder is a classifier's feature extractor, so that both can start from the same weights."""

from __future__ import annotations

from lrp_edge.backbones.efficientnet_lite0 import STEM, features_of, scaled
from lrp_edge.backbones.efficientnet_lite0 import efficientnet_lite0 as lite0
from lrp_edge.errors import needs_extra

with needs_extra("export"):
    from torch import Tensor, nn

#: Stages of EfficientNet-Lite0 after which its features are handed to the decoder: the last at each stride from 4 on.
SKIPPED = (2, 3, 5, 7)
#: Channels of the decoder, from the coarsest level to the pixels.
DECODER = (256, 128, 64, 32, 16)
#: Log-odds of a defect at a pixel, before anything is learnt.
FIRST_LOGIT = -2.0


class EncodedUNet(nn.Module):
    """Encoder, decoder, and one logit for each pixel: float image [N, C, H, W] to [N, 1, H, W], H and W of 32 pixels.

    The decoder is that of segmentation-models-pytorch: at each level the features are enlarged by two, joined with
    those of the encoder at that size, and convolved twice.

    Attributes
    ----------
    features : nn.Sequential
        The encoder, all of EfficientNet-Lite0 but its head.

    References
    ----------
    Ronneberger et al. 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation", arXiv 1505.04597.
    """

    def __init__(self, channels: int, width: float = 1.0, dropout: float = 0.0) -> None:
        super().__init__()
        with needs_extra("baselines"):
            # It imports timm, and that torchvision.
            from lrp_edge import _torchvision  # noqa: F401, I001
            from segmentation_models_pytorch.base.initialization import initialize_decoder
            from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
        self.features = lite0(channels=channels, stages=SKIPPED[-1], stride=32, width=width)
        levels = (channels, scaled(STEM, width), *(features_of(stages, 32, width)[0] for stages in SKIPPED))
        outputs = [scaled(count, width) for count in DECODER]
        self.decoder = UnetDecoder(levels, outputs)
        initialize_decoder(self.decoder)
        last = nn.Conv2d(outputs[-1], 1, 3, padding=1)
        # Most pixels are of no defect.
        nn.init.constant_(last.bias, FIRST_LOGIT)  # type: ignore[arg-type]
        self.head = nn.Sequential(nn.Dropout2d(dropout), last)

    def forward(self, image: Tensor) -> Tensor:
        levels, features = [image], image
        for place, stage in enumerate(self.features):
            features = stage(features)
            if place in (0, *SKIPPED):
                levels.append(features)
        logits: Tensor = self.head(self.decoder(levels))
        return logits

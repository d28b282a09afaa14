"""Random changes of the training inputs: one file each, and one line each in `AUGMENTATIONS`.

An augmentation is a function ``augment(inputs, generator, **options)``, or a frozen dataclass whose fields are the
options and whose objects are called with the other two. ``inputs`` (B, ...) float32 are a batch as the model would get
it, already scaled; the result is what it gets instead. Chance comes from ``generator`` alone, a `torch.Generator`
on the CPU from the stream of (round, client).
"""

AUGMENTATIONS: dict[str, str] = {
    "none": "fedbench.augmentations.none:none",
    "horizontal-flip": "fedbench.augmentations.flip:horizontal_flip",
    "random-crop": "fedbench.augmentations.crop:random_crop",
    "crop-and-flip": "fedbench.augmentations.crop_and_flip:crop_and_flip",
}

"""Fashion-MNIST: 70,000 grey images of clothes of 28x28."""

from fedbench.datasets import DatasetInfo
from fedbench.datasets.idx import IdxDataset

FASHION_MNIST = IdxDataset(
    name="fashion-mnist",
    folder="FashionMNIST",
    INFO=DatasetInfo(
        image_shape=(1, 28, 28),
        num_classes=10,
        sizes={"standard": (60_000, 10_000)},
        licence="MIT",
        citation="Han Xiao, Kashif Rasul, Roland Vollgraf: Fashion-MNIST: a Novel Image Dataset for Benchmarking "
        "Machine Learning Algorithms, arXiv:1708.07747 (2017); (c) 2017 Zalando SE",
        url="https://github.com/zalandoresearch/fashion-mnist",
        digests={"standard": "0ecb519e4a2295a5c320c8ea9869946c5fd51a5228b8b434617ab978215edd05"},
    ),
    md5={
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
    mean=(0.2860,),
    std=(0.3530,),
    class_names=(
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
)

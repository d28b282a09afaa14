"""MNIST: 70,000 grey images of handwritten digits of 28x28."""

from fedbench.datasets import DatasetInfo
from fedbench.datasets.idx import IdxDataset

MNIST = IdxDataset(
    name="mnist",
    folder="MNIST",
    INFO=DatasetInfo(
        image_shape=(1, 28, 28),
        num_classes=10,
        sizes={"standard": (60_000, 10_000)},
        licence="CC BY-SA 3.0",
        citation="Yann LeCun, Corinna Cortes, Christopher J. C. Burges: The MNIST database of handwritten digits",
        url="http://yann.lecun.com/exdb/mnist/",
        digests={"standard": "57dba8bb90156b10d9ee0d89a926e88cf9797b69ae33a024b065e1ada5dfc408"},
    ),
    md5={
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    mean=(0.1307,),
    std=(0.3081,),
    class_names=tuple(map(str, range(10))),
)

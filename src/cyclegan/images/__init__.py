"""Image files, arrays and tensors. `file_formats` lists the formats of `filetypes`, `codecs` reads and writes them."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

# (H, W, C) in the type of its file, unless a function says otherwise.
Array: TypeAlias = NDArray[np.generic]

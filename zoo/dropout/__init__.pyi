from .layers import DropBlock2D as DropBlock2D
from .layers import Dropout as Dropout
from .layers import GaussianDropout as GaussianDropout
from .layers import SpatialDropout1D as SpatialDropout1D
from .layers import SpatialDropout2D as SpatialDropout2D
from .layers import SpatialDropout3D as SpatialDropout3D

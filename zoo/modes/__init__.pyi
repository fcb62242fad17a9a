from .compare import ModesResult as ModesResult
from .compare import compare_modes as compare_modes
from .modes import in_mode as in_mode
from .montecarlo import Sampler as Sampler

MASKS: tuple[str, ...]
MODES: tuple[str, ...]
PREDICTING: tuple[str, ...]

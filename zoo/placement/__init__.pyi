from .drop import Drop as Drop
from .placement import Placement as Placement
from .schedule import Schedule as Schedule

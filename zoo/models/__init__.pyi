from .catalogue import build as build
from .catalogue import list_models as list_models
from .compiling import compile as compile

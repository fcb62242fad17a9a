from .hypermodel import HyperModel as HyperModel
from .result import SearchResult as SearchResult
from .session import search as search
from .space import Space as Space

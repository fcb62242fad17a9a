from .comparison.compare import compare as compare
from .comparison.result import CompareResult as CompareResult
from .recipe import Recipe as Recipe
from .training.result import TrainResult as TrainResult
from .training.train import train as train

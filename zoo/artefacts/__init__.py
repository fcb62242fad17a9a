"""Exported models: folders that predict the same in every runtime, checked before they are opened.

`sums.py` says that a folder is as it was written, `contract.py` what its card promises,
`load.py` runs it. What loads and predicts imports neither TensorFlow nor Keras for
ONNX and LiteRT.
"""

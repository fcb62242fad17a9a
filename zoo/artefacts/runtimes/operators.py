"""The operators that exported models may have, by runtime.

They are what the stock layers of Keras, its elementary operations and our own mask layers become
in an export (`tests/test_operators.py` exports each of them and compares), and other standard
forms that converters give the same layers. None touches files, networks, Python, devices or what
outlives a call. Everything that is not on a list is refused.
"""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# In the functions of a SavedModel that a prediction calls.
SAVEDMODEL = _names(
    """
    Abs Acos Acosh AddV2 All Any ArgMax ArgMin AsString Asin Asinh Assert Atan Atan2 Atanh AvgPool AvgPool3D
    BatchMatMulV2 BatchToSpaceND BiasAdd Bitcast BitwiseAnd BitwiseOr BitwiseXor BroadcastArgs BroadcastTo Bucketize
    Cast Ceil ConcatV2 Const Conv2D Conv2DBackpropInput Conv3D Conv3DBackpropInputV2 Cos Cosh Cumprod Cumsum
    DenseBincount DepthwiseConv2dNative DivNoNan Einsum Elu EnsureShape Equal Erf Erfc Erfinv Exp ExpandDims Expm1 Fill
    Floor FloorDiv FloorMod FusedBatchNormV3 GatherNd GatherV2 Greater GreaterEqual HSVToRGB Identity IdentityN If Imag
    ImageProjectiveTransformV3 IsFinite IsInf IsNan LeakyRelu LeftShift Less LessEqual Log Log1p LogSoftmax LogicalAnd
    LogicalNot LogicalOr LookupTableFindV2 MatMul MatrixBandPart MatrixSolve Max MaxPool MaxPool3D Maximum Mean Min
    Minimum MirrorPad Mul Neg NoOp NotEqual OneHot OnesLike Pack Pad PartitionedCall Placeholder PlaceholderWithDefault
    Pow Prod RFFT RGBToHSV RaggedBincount RaggedTensorToTensor Range ReadVariableOp Real RealDiv Reciprocal Relu Relu6
    Reshape ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor ReverseV2 RightShift Roll Round Rsqrt
    ScaleAndTranslate SelectV2 Selu Shape Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToBatchND
    SparseCross SparseToDense Split SplitV Sqrt Square SquaredDifference Squeeze StatefulPartitionedCall StatelessIf
    StatelessRandomGammaV3 StatelessRandomGetKeyCounter StatelessRandomNormalV2 StatelessRandomUniformIntV2
    StatelessRandomUniformV2 StatelessWhile StaticRegexReplace StopGradient StridedSlice StringFormat StringLower
    StringNGrams StringSplitV2 StringToHashBucketFast StringToHashBucketStrong Sub Sum Tan Tanh TensorListFromTensor
    TensorListGetItem TensorListReserve TensorListSetItem TensorListStack Tile TopKV2 Transpose UnicodeDecode
    UnicodeEncode Unpack Where While ZerosLike
    """
)

# Outside the functions of a SavedModel.
SAVEDMODEL_GRAPH = _names(
    """
    AssignVariableOp Const HashTableV2 NoOp PartitionedCall Placeholder ReadVariableOp StatefulPartitionedCall
    VarHandleOp VarIsInitializedOp
    """
)

# In the functions that save and restore weights, and nowhere else.
SAVEDMODEL_SAVER = _names(
    """
    AssignVariableOp Const DisableCopyOnRead Identity MergeV2Checkpoints NoOp Pack ReadVariableOp RestoreV2 SaveV2
    Select ShardedFilename StaticRegexFullMatch StringJoin
    """
)

# In the functions that create and fill tables of words and categories.
SAVEDMODEL_TABLES = _names(
    """
    Const HashTableV2 Identity InitializeTableFromTextFileV2 LookupTableImportV2 NoOp
    """
)

# Of the standard domain of ONNX. `Loop` only if it states a small number of rounds, see `onnx.check`.
ONNX = _names(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization BitShift BitwiseXor Cast
    Ceil Clip Compress Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum Div Einsum Elu Equal Erf Exp
    Expand Flatten Floor GRU Gather Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual HardSigmoid
    Identity If IsInf IsNaN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop MatMul Max MaxPool
    Min Mod Mul Neg Not OneHot Or PRelu Pad Pow RNN Range Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence Round ScatterElements ScatterND Selu Shape Sigmoid
    Sign Sin Sinh Size Slice Softmax Softplus Softsign Split Sqrt Squeeze Sub Tan Tanh Tile TopK Transpose Unique
    Unsqueeze Where
    """
)

# Built into LiteRT, by their names in `schema.BuiltinOperator`.
LITERT = _names(
    """
    ABS ADD ADD_N ARG_MAX ARG_MIN ATAN2 AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BITWISE_XOR BROADCAST_ARGS
    BROADCAST_TO BUCKETIZE CAST CEIL CONCATENATION CONV_2D CONV_3D CONV_3D_TRANSPOSE COS CUMSUM DEPTHWISE_CONV_2D DIV
    ELU EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND GELU GREATER GREATER_EQUAL
    HARD_SWISH IMAG L2_NORMALIZATION LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC
    LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL ONE_HOT PACK PAD POW PRELU RANGE RANK REAL
    REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
    REVERSE_V2 RFFT2D RIGHT_SHIFT ROUND RSQRT SELECT_V2 SHAPE SIGN SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPLIT SPLIT_V
    SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM TANH TILE TOPK_V2 TRANSPOSE TRANSPOSE_CONV UNPACK
    ZEROS_LIKE
    """
)

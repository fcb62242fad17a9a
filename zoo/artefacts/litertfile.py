"""A LiteRT file before it is run: what it would call and read, told from its tables."""

from zoo.errors import BadInput


def check(path, data):
    """Refuse a model of operators that LiteRT does not bring, or with data in other files.

    Custom operators, among them those that need TensorFlow (Flex), are code from elsewhere.

    Raises `BadInput`, also for bytes that are no LiteRT file.
    """
    from ai_edge_litert import schema_py_generated as schema

    try:
        whole = schema.Model.ModelBufferHasIdentifier(data, 0)
        model = schema.Model.GetRootAs(data, 0)
        codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
        custom = [code.CustomCode() or b"" for code in codes if schema.BuiltinOperator.CUSTOM in _numbers(code)]
        outside = model.ExternalBufferGroupsLength() or model.ExternalBuffersLength()
    except Exception as error:  # a table that points anywhere raises anything
        raise _broken(path) from error
    if not whole:
        raise _broken(path)
    if custom:
        raise BadInput(
            f"{path} has the custom operator {custom[0].decode('utf-8', 'replace')!r}; allowed are those that LiteRT "
            "has built in: export the model again"
        )
    if outside:
        raise BadInput(f"{path} keeps data in another file; allowed is one file: export the model again")


def _numbers(code):
    return code.BuiltinCode(), code.DeprecatedBuiltinCode()


def _broken(path):
    return BadInput(f"{path} is no whole LiteRT file; copy or export the artefact again")

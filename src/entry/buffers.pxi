# Buffers are read by hand: a small call has eight arrays, and a memoryview takes three times as long to make ("Plans,
# visits and samples by name" in docs/notes.md).

cdef int refuse(array, const char *format, Py_ssize_t itemsize) except -1:
    """Raise for an array of another dtype."""
    raise ValueError(f"expected numbers of {itemsize} bytes, got {array.dtype} (format {format.decode()!r})")


# NumPy tells the byte order of a dtype that was made with one, as h5py's are, even where it is this machine's.
cdef char NATIVE = b"<" if sys.byteorder == "little" else b">"


cdef char code_of(const Py_buffer *view) noexcept:
    """Return the letter of native numbers; 0 for anything else."""
    cdef const char *format = view.format
    if format[0] == NATIVE or format[0] == b"=":
        format += 1
    return format[0] if format[0] != 0 and format[1] == 0 else 0


cdef bint is_of(const Py_buffer *view, char kind, Py_ssize_t itemsize) noexcept:
    """Return whether these are native floats ('f') or integers ('i') of this size."""
    cdef char code = code_of(view)
    if view.itemsize != itemsize:
        return False
    return code == b"f" or code == b"d" if kind == b"f" else code == b"l" or code == b"q" or code == b"i"


cdef void *numbers(
    array, char kind, Py_ssize_t itemsize, Py_ssize_t count, bint written, int *element=NULL,
) except? NULL:
    """Return where a C-contiguous array of at least `count` floats or integers begins; NULL for None.

    `element`, if it is not NULL, gets the type of floats, which may then be int8 or uint8.
    """
    cdef Py_buffer view
    cdef int found = REAL
    if array is None:
        return NULL
    PyObject_GetBuffer(array, &view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | (PyBUF_WRITABLE if written else 0))
    try:
        if element != NULL and itemsize == sizeof(float) and view.itemsize == 1:
            found = element_of(&view)
        if found == REAL and not is_of(&view, kind, itemsize):
            refuse(array, view.format, itemsize)
        if element != NULL:
            element[0] = found
        if view.len < count * itemsize:
            raise ValueError(f"expected {count} numbers or more, got {view.len // itemsize}")
        return view.buf
    finally:
        PyBuffer_Release(&view)


cdef int element_of(const Py_buffer *view) noexcept:
    """Return which of widen.h's types these are, or REAL; bfloat16 comes as uint16, the bits of its numbers."""
    cdef char code = code_of(view)
    return FLOAT16 if code == b"e" else BFLOAT16 if code == b"H" else INT8 if code == b"b" else (
        UINT8 if code == b"B" else REAL
    )


cdef Py_ssize_t bytes_of(int element, Py_ssize_t itemsize) noexcept:
    """Return the bytes of an element of this type; `itemsize` is that of the floats that are computed."""
    return itemsize if element == REAL else 2 if element == FLOAT16 or element == BFLOAT16 else 1


cdef const void *rows_of(
    array, Py_ssize_t itemsize, Py_ssize_t columns, Py_ssize_t *count, Py_ssize_t *distance, int *element=NULL,
) except? NULL:
    """Return where rows of contiguous columns begin; write their count, and how many elements they are apart.

    `element`, if it is not NULL, gets their type; floats may then be any of widen.h.
    """
    cdef Py_buffer view
    cdef int found = REAL
    try:
        PyObject_GetBuffer(array, &view, PyBUF_FORMAT | PyBUF_STRIDES)
    except ValueError:
        if element == NULL:
            raise
        # NumPy lends no buffer of a dtype that is not its own, as bfloat16 is.
        PyObject_GetBuffer(array.view("u2"), &view, PyBUF_FORMAT | PyBUF_STRIDES)
    try:
        if element != NULL and itemsize == sizeof(float):
            found = element_of(&view)
        if found == REAL and not is_of(&view, b"f", itemsize):
            refuse(array, view.format, itemsize)
        if view.ndim != 2 or view.shape[1] != columns or (columns > 1 and view.strides[1] != view.itemsize):
            raise ValueError(f"expected rows of {columns} numbers side by side, got shape {array.shape}")
        count[0], distance[0] = view.shape[0], view.strides[0] // view.itemsize
        if element != NULL:
            element[0] = found
        return view.buf
    finally:
        PyBuffer_Release(&view)

# cmake -DINPUT=file -DOUTPUT=file.c -DSYMBOL=name -P embed.cmake
#
# The bytes of INPUT as a C array, with a NUL behind them that SYMBOL_size does
# not count.
file(READ "${INPUT}" hex HEX)
string(LENGTH "${hex}" digits)
math(EXPR size "${digits} / 2")
string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," hex "${hex}")
file(WRITE "${OUTPUT}"
    "#include <stddef.h>\n\n"
    "extern const char ${SYMBOL}[];\n"
    "extern const size_t ${SYMBOL}_size;\n\n"
    "const char ${SYMBOL}[] = {\n${hex}\n'\\0'};\n"
    "const size_t ${SYMBOL}_size = ${size};\n")

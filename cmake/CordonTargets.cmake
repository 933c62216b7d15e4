# The two kinds of target the folders make.

# cordon_modules(NAME SOURCES a.c b.c LIBRARIES x y)
#
# A static library of modules without a main(), so that a program and the unit
# tests of its modules link the same objects.
function(cordon_modules name)
    cmake_parse_arguments(arg "" "" "SOURCES;LIBRARIES" ${ARGN})
    add_library(${name} STATIC ${arg_SOURCES})
    target_link_libraries(${name} PUBLIC ${arg_LIBRARIES})
endfunction()

# cordon_program(NAME bin|libexec SOURCES main.c LIBRARIES x y)
#
# A program of the product, put where cordond looks for it.
function(cordon_program name place)
    cmake_parse_arguments(arg "" "" "SOURCES;LIBRARIES" ${ARGN})
    add_executable(${name} ${arg_SOURCES})
    target_link_libraries(${name} PRIVATE ${arg_LIBRARIES})
    if(CORDON_SANITIZE)
        target_sources(${name} PRIVATE "${PROJECT_SOURCE_DIR}/cmake/sanitizer_options.c")
        target_compile_definitions(${name} PRIVATE CORDON_SANITIZER_LOG="${CORDON_SANITIZER_LOG}")
    endif()
    if(place STREQUAL "bin")
        set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CORDON_BIN_DIR}")
        install(TARGETS ${name} RUNTIME DESTINATION bin)
    else()
        set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CORDON_LIBEXEC_DIR}")
        install(TARGETS ${name} RUNTIME DESTINATION libexec/cordon)
    endif()
endfunction()

# cordon_embed(OUTPUT FILE SYMBOL)
#
# Writes the C source OUTPUT with the bytes of FILE as SYMBOL[] and SYMBOL_size.
function(cordon_embed output file symbol)
    add_custom_command(
        OUTPUT "${output}"
        COMMAND "${CMAKE_COMMAND}" "-DINPUT=${file}" "-DOUTPUT=${output}" "-DSYMBOL=${symbol}"
                -P "${PROJECT_SOURCE_DIR}/cmake/embed.cmake"
        DEPENDS "${file}" "${PROJECT_SOURCE_DIR}/cmake/embed.cmake"
        VERBATIM)
endfunction()

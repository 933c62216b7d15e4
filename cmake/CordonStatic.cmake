# The archives for a nursery that is linked statically.

set(CORDON_STATIC_WORKER AUTO CACHE STRING
    "Link nursery and workers statically: ON, OFF, or AUTO (optimized, not sanitized, and it links)")

# cordon_find_static_gnutls(VARIABLE)
#
# Gives the archives of GnuTLS and what it needs, or nothing: then link dynamically.
function(cordon_find_static_gnutls variable)
    set(${variable} "" PARENT_SCOPE)
    if(CORDON_STATIC_WORKER STREQUAL "AUTO" AND (CORDON_SANITIZE OR CMAKE_BUILD_TYPE STREQUAL "Debug"))
        return()
    elseif(NOT CORDON_STATIC_WORKER STREQUAL "AUTO" AND NOT CORDON_STATIC_WORKER)
        return()
    endif()

    # What GnuTLS says it needs, but for what worker/absent.c stands in for.
    set(names ${GNUTLS_STATIC_LIBRARIES} ${SECCOMP_STATIC_LIBRARIES})
    list(REMOVE_ITEM names p11-kit atomic)
    set(archives "")
    set(missing "")
    foreach(name IN LISTS names)
        find_library(CORDON_ARCHIVE_${name} "lib${name}.a")
        mark_as_advanced(CORDON_ARCHIVE_${name})
        if(CORDON_ARCHIVE_${name})
            list(APPEND archives "${CORDON_ARCHIVE_${name}}")
        else()
            list(APPEND missing "lib${name}.a")
        endif()
    endforeach()
    if(NOT missing)
        file(WRITE "${PROJECT_BINARY_DIR}/static_gnutls.c"
            "#include <gnutls/gnutls.h>\nint main(void) { return gnutls_global_init(); }\n")
        try_compile(CORDON_STATIC_LINKS "${PROJECT_BINARY_DIR}/static_gnutls"
            SOURCES "${PROJECT_BINARY_DIR}/static_gnutls.c" "${PROJECT_SOURCE_DIR}/worker/absent.c"
            LINK_OPTIONS -static-pie LINK_LIBRARIES ${archives})
        if(CORDON_STATIC_LINKS)
            set(${variable} ${archives} PARENT_SCOPE)
            return()
        endif()
        set(missing "a link that works: see CMakeError.log")
    endif()
    if(CORDON_STATIC_WORKER STREQUAL "AUTO")
        message(STATUS "Nursery linked dynamically, which makes workers slower to start; missing: ${missing}")
    else()
        message(FATAL_ERROR "The nursery cannot be linked statically; missing: ${missing}")
    endif()
endfunction()

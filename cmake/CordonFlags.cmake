# Compiler and linker flags of everything in the project.

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Release, RelWithDebInfo or Debug" FORCE)
endif()

include(CheckCCompilerFlag)
include(CheckPIESupported)
include(GNUInstallDirs)

# One layout, in the build tree and in the prefix: bin/ and libexec/cordon/,
# never lib/x86_64-linux-gnu: cordond finds libexec beside its own bin/.
set(CORDON_BIN_DIR "${PROJECT_BINARY_DIR}/bin")
set(CORDON_LIBEXEC_DIR "${PROJECT_BINARY_DIR}/libexec/cordon")

include_directories("${PROJECT_SOURCE_DIR}")
add_compile_definitions(_GNU_SOURCE CORDON_VERSION="${PROJECT_VERSION}")

# Assertions stay, whatever the build type or the packager's flags say.
add_compile_options(-UNDEBUG)

add_compile_options(
    -Wall -Wextra -Wvla -Wformat=2 -Wundef -Wpointer-arith -Wwrite-strings
    "$<$<COMPILE_LANGUAGE:C>:-Wshadow;-Wstrict-prototypes;-Wmissing-prototypes;-Wold-style-definition>")
if(CORDON_WERROR)
    add_compile_options(-Werror)
endif()

set(CMAKE_POSITION_INDEPENDENT_CODE ON)
check_pie_supported()
add_compile_options(-fno-strict-aliasing)
add_link_options(-Wl,-z,relro,-z,now,-z,noexecstack,--as-needed)

if(CORDON_SANITIZE)
    add_compile_options(
        -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
    add_link_options(-fsanitize=address,undefined)
    add_compile_definitions(CORDON_SANITIZED=1)

    # Where reports go, one file each; any of our users may write there.
    string(MD5 tree "${PROJECT_BINARY_DIR}")
    string(SUBSTRING "${tree}" 0 8 tree)
    set(CORDON_SANITIZER_LOG "/tmp/cordon-sanitizer-${tree}/report" CACHE INTERNAL "")
    cmake_path(GET CORDON_SANITIZER_LOG PARENT_PATH reports)
    file(MAKE_DIRECTORY "${reports}")
    file(CHMOD "${reports}" PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE
         GROUP_READ GROUP_WRITE GROUP_EXECUTE WORLD_READ WORLD_WRITE WORLD_EXECUTE)
else()
    foreach(flag -fstack-protector-strong -fstack-clash-protection -fcf-protection=full)
        string(MAKE_C_IDENTIFIER "HAS${flag}" has)
        check_c_compiler_flag(${flag} ${has})
        if(${has})
            add_compile_options(${flag})
        endif()
    endforeach()

    set(fortify 2)
    if((CMAKE_C_COMPILER_ID STREQUAL "GNU" AND CMAKE_C_COMPILER_VERSION VERSION_GREATER_EQUAL 12)
       OR (CMAKE_C_COMPILER_ID MATCHES "Clang" AND CMAKE_C_COMPILER_VERSION VERSION_GREATER_EQUAL 12))
        set(fortify 3)
    endif()
    # It needs the optimizer, so not at -O0.
    add_compile_options(
        "$<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE;-D_FORTIFY_SOURCE=${fortify}>")
endif()

# SPDX-License-Identifier: Apache-2.0
#
# find_package(edgekit) gives
#
#     edgekit::edgekit   the shared library, or the static one where the platform has none
#     edgekit::static    the static library
#     edgekit::threads   for edgekit::static: the pool of edgekit_threads.h

get_filename_component(_edgekit_prefix "${CMAKE_CURRENT_LIST_DIR}/.." ABSOLUTE)

function(_edgekit_library name kind file)
    if(NOT TARGET edgekit::${name})
        add_library(edgekit::${name} ${kind} IMPORTED)
        set_target_properties(edgekit::${name} PROPERTIES
            IMPORTED_LOCATION "${_edgekit_prefix}/${file}"
            INTERFACE_INCLUDE_DIRECTORIES "${_edgekit_prefix}/include")
    endif()
endfunction()

_edgekit_library(static STATIC libedgekit.a)

foreach(_edgekit_file libedgekit.so libedgekit.dylib)
    if(EXISTS "${_edgekit_prefix}/${_edgekit_file}")
        _edgekit_library(edgekit SHARED ${_edgekit_file})
    endif()
endforeach()
_edgekit_library(edgekit STATIC libedgekit.a)

if(EXISTS "${_edgekit_prefix}/libedgekit_threads.a")
    include(CMakeFindDependencyMacro)
    find_dependency(Threads)
    _edgekit_library(threads STATIC libedgekit_threads.a)
    set_property(TARGET edgekit::threads PROPERTY INTERFACE_LINK_LIBRARIES Threads::Threads)
endif()

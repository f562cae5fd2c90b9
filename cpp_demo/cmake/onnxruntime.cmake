# ONNX Runtime, from the first of: the folder that is given with -DONNXRUNTIME_ROOT=, an installed package, or a release
# archive of a fixed version and SHA-256.

set(ONNXRUNTIME_ROOT "" CACHE PATH "Folder with include/ and lib/ of ONNX Runtime; empty for an installed one")
option(LRP_EDGE_FETCH "Download what is not installed" ON)

set(LRP_EDGE_ONNXRUNTIME_INSTALLED OFF)
find_package(ONNXRuntime 1.17 QUIET)
if(NOT ONNXRUNTIME_ROOT)
  set(LRP_EDGE_ONNXRUNTIME_INSTALLED ${ONNXRuntime_FOUND})
endif()

if(NOT ONNXRuntime_FOUND AND NOT ONNXRUNTIME_ROOT AND LRP_EDGE_FETCH)
  set(version 1.23.2)
  set(system "${CMAKE_SYSTEM_NAME} ${CMAKE_SYSTEM_PROCESSOR}")
  if(system STREQUAL "Windows AMD64")
    set(archive onnxruntime-win-x64-${version}.zip)
    set(hash 0b38df9af21834e41e73d602d90db5cb06dbd1ca618948b8f1d66d607ac9f3cd)
  elseif(system STREQUAL "Linux aarch64")
    set(archive onnxruntime-linux-aarch64-${version}.tgz)
    set(hash 7c63c73560ed76b1fac6cff8204ffe34fe180e70d6582b5332ec094810241e5c)
  elseif(system STREQUAL "Linux x86_64")
    set(archive onnxruntime-linux-x64-${version}.tgz)
    set(hash 1fa4dcaef22f6f7d5cd81b28c2800414350c10116f5fdd46a2160082551c5f9b)
  else()
    message(FATAL_ERROR "No release archive of ONNX Runtime is known for ${system}; give a folder with its headers and "
                        "library with -DONNXRUNTIME_ROOT=")
  endif()
  include(FetchContent)
  FetchContent_Declare(onnxruntime URL https://github.com/microsoft/onnxruntime/releases/download/v${version}/${archive}
                                   URL_HASH SHA256=${hash})
  FetchContent_MakeAvailable(onnxruntime)
  set(ONNXRUNTIME_ROOT "${onnxruntime_SOURCE_DIR}")
endif()

if(NOT ONNXRuntime_FOUND)
  find_package(ONNXRuntime 1.17 QUIET)
endif()
if(NOT ONNXRuntime_FOUND)
  message(FATAL_ERROR "ONNX Runtime was not found; install it (Debian 13: libonnxruntime-dev), give its folder with "
                      "-DONNXRUNTIME_ROOT=, or let it be downloaded with -DLRP_EDGE_FETCH=ON")
endif()
message(STATUS "ONNX Runtime: ${ONNXRuntime_LIBRARY}, headers of ${ONNXRuntime_VERSION}")

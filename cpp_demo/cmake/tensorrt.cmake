# TensorRT or TensorRT-RTX for engine files: with them if they are found, or as LRP_EDGE_TENSORRT says.

set(LRP_EDGE_TENSORRT AUTO CACHE STRING "Whether to build with TensorRT: ON, OFF, or AUTO where it is found")
set_property(CACHE LRP_EDGE_TENSORRT PROPERTY STRINGS AUTO ON OFF)
set(TENSORRT_ROOT "" CACHE PATH "Folder with include/ and lib/ of TensorRT or TensorRT-RTX; empty for an installed one")

if(LRP_EDGE_TENSORRT)
  # What was found in another folder, or not found, is looked for again.
  if(NOT "${TENSORRT_ROOT}" STREQUAL "${_TensorRT_SEARCHED}")
    unset(TensorRT_INCLUDE_DIR CACHE)
    unset(TensorRT_LIBRARY CACHE)
  endif()
  set(_TensorRT_SEARCHED "${TENSORRT_ROOT}" CACHE INTERNAL "")
  set(hints "")
  if(TENSORRT_ROOT)
    set(hints PATHS "${TENSORRT_ROOT}" NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH)
  endif()
  find_path(TensorRT_INCLUDE_DIR NvInferVersion.h ${hints} PATH_SUFFIXES include)
  # Both products have headers of the same names, which say whose they are. On Windows a library's name has its version.
  set(text "")
  if(TensorRT_INCLUDE_DIR)
    file(READ "${TensorRT_INCLUDE_DIR}/NvInferVersion.h" text)
  endif()
  if(text MATCHES "#define TRT_MAJOR_RTX ([0-9]+)")
    set(names tensorrt_rtx_${CMAKE_MATCH_1})
    if(text MATCHES "#define TRT_MINOR_RTX ([0-9]+)")
      set(names ${names}_${CMAKE_MATCH_1})
    endif()
    list(APPEND names tensorrt_rtx)
  elseif(text MATCHES "#define (NV_TENSORRT_MAJOR|TRT_MAJOR_ENTERPRISE) ([0-9]+)")
    set(names nvinfer_${CMAKE_MATCH_2} nvinfer)
  else()
    set(names nvinfer)
  endif()
  find_library(TensorRT_LIBRARY NAMES ${names} NAMES_PER_DIR ${hints} PATH_SUFFIXES lib lib64)
  mark_as_advanced(TensorRT_INCLUDE_DIR TensorRT_LIBRARY)
  find_package(CUDAToolkit QUIET)
  find_package(OpenSSL QUIET COMPONENTS Crypto)
endif()

set(LRP_EDGE_HAS_TENSORRT OFF)
if(LRP_EDGE_TENSORRT AND TensorRT_INCLUDE_DIR AND TensorRT_LIBRARY AND CUDAToolkit_FOUND AND OPENSSL_FOUND)
  set(LRP_EDGE_HAS_TENSORRT ON)
  target_sources(lrp_edge PRIVATE
    src/tensorrt.cpp
    src/tensorrt_call.cpp
    src/tensorrt_cuda.cpp
    src/tensorrt_engine_file.cpp
    src/tensorrt_runtime.cpp)
  target_include_directories(lrp_edge SYSTEM PRIVATE "${TensorRT_INCLUDE_DIR}")
  target_link_libraries(lrp_edge PRIVATE "${TensorRT_LIBRARY}" CUDA::cudart OpenSSL::Crypto)
  # An archive that was unpacked somewhere is not where the loader looks.
  if(TENSORRT_ROOT)
    get_filename_component(LRP_EDGE_TENSORRT_FOLDER "${TensorRT_LIBRARY}" DIRECTORY)
  endif()
  message(STATUS "TensorRT: ${TensorRT_LIBRARY}")
elseif(LRP_EDGE_TENSORRT AND NOT LRP_EDGE_TENSORRT STREQUAL "AUTO")
  message(FATAL_ERROR "TensorRT, the CUDA toolkit or OpenSSL was not found; set TENSORRT_ROOT, or "
                      "LRP_EDGE_TENSORRT=OFF")
else()
  target_sources(lrp_edge PRIVATE src/tensorrt_missing.cpp)
endif()

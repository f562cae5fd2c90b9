# TensorRT or TensorRT-RTX for engine files: with them if they are found, or as LRP_EDGE_TENSORRT says.

set(LRP_EDGE_TENSORRT AUTO CACHE STRING "Whether to build with TensorRT: ON, OFF, or AUTO where it is found")
set_property(CACHE LRP_EDGE_TENSORRT PROPERTY STRINGS AUTO ON OFF)
set(TENSORRT_ROOT "" CACHE PATH "Folder with include/ and lib/ of TensorRT or TensorRT-RTX; empty for an installed one")

if(NOT LRP_EDGE_TENSORRT STREQUAL "OFF")
  find_path(TensorRT_INCLUDE_DIR NvInferRuntime.h HINTS "${TENSORRT_ROOT}" PATH_SUFFIXES include)
  find_library(TensorRT_LIBRARY NAMES tensorrt_rtx nvinfer HINTS "${TENSORRT_ROOT}" PATH_SUFFIXES lib lib64)
  find_package(CUDAToolkit QUIET)
  find_package(OpenSSL QUIET COMPONENTS Crypto)
endif()

if(TensorRT_INCLUDE_DIR AND TensorRT_LIBRARY AND CUDAToolkit_FOUND AND OPENSSL_FOUND)
  file(GLOB sources CONFIGURE_DEPENDS src/tensorrt*.cpp)
  list(FILTER sources EXCLUDE REGEX "tensorrt_missing")
  target_sources(lrp_edge PRIVATE ${sources})
  target_include_directories(lrp_edge SYSTEM PRIVATE "${TensorRT_INCLUDE_DIR}")
  target_link_libraries(lrp_edge PRIVATE "${TensorRT_LIBRARY}" CUDA::cudart OpenSSL::Crypto)
  message(STATUS "TensorRT: ${TensorRT_LIBRARY}")
elseif(LRP_EDGE_TENSORRT STREQUAL "ON")
  message(FATAL_ERROR "TensorRT, the CUDA toolkit or OpenSSL was not found; set TENSORRT_ROOT, or "
                      "LRP_EDGE_TENSORRT=OFF")
else()
  target_sources(lrp_edge PRIVATE src/tensorrt_missing.cpp)
endif()

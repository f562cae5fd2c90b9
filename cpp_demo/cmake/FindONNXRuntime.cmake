# Finds ONNX Runtime: in ONNXRUNTIME_ROOT if that is set, else where packages are installed.
#
# Defines the target ONNXRuntime::ONNXRuntime, and ONNXRuntime_FOUND, ONNXRuntime_VERSION (of the headers' C API: 1.N),
# ONNXRuntime_LIBRARY and ONNXRuntime_INCLUDE_DIR.

if(ONNXRUNTIME_ROOT)
  set(_hints PATHS "${ONNXRUNTIME_ROOT}" NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH)
else()
  set(_hints "")
endif()

# What was found in another folder, or not found, is looked for again.
if(NOT "${ONNXRUNTIME_ROOT}" STREQUAL "${_ONNXRuntime_SEARCHED}")
  unset(ONNXRuntime_INCLUDE_DIR CACHE)
  unset(ONNXRuntime_LIBRARY CACHE)
endif()
set(_ONNXRuntime_SEARCHED "${ONNXRUNTIME_ROOT}" CACHE INTERNAL "")

find_path(ONNXRuntime_INCLUDE_DIR onnxruntime_cxx_api.h ${_hints}
          PATH_SUFFIXES include include/onnxruntime onnxruntime include/onnxruntime/core/session
                        onnxruntime/core/session)
find_library(ONNXRuntime_LIBRARY onnxruntime ${_hints} PATH_SUFFIXES lib lib64)
mark_as_advanced(ONNXRuntime_INCLUDE_DIR ONNXRuntime_LIBRARY)

if(ONNXRuntime_INCLUDE_DIR)
  file(STRINGS "${ONNXRuntime_INCLUDE_DIR}/onnxruntime_c_api.h" _line REGEX "^#define ORT_API_VERSION [0-9]+")
  string(REGEX REPLACE "^#define ORT_API_VERSION ([0-9]+).*" "1.\\1" ONNXRuntime_VERSION "${_line}")
endif()

# Whoever links a static lrp_edge needs the library alone.
set(_required ONNXRuntime_LIBRARY)
if(NOT "library" IN_LIST ONNXRuntime_FIND_COMPONENTS)
  list(APPEND _required ONNXRuntime_INCLUDE_DIR)
endif()
set(ONNXRuntime_library_FOUND TRUE)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(ONNXRuntime REQUIRED_VARS ${_required} VERSION_VAR ONNXRuntime_VERSION
                                  HANDLE_COMPONENTS)

if(ONNXRuntime_FOUND AND NOT TARGET ONNXRuntime::ONNXRuntime)
  add_library(ONNXRuntime::ONNXRuntime UNKNOWN IMPORTED)
  set_target_properties(ONNXRuntime::ONNXRuntime PROPERTIES IMPORTED_LOCATION "${ONNXRuntime_LIBRARY}")
  if(ONNXRuntime_INCLUDE_DIR)
    target_include_directories(ONNXRuntime::ONNXRuntime SYSTEM INTERFACE "${ONNXRuntime_INCLUDE_DIR}")
  endif()
endif()

# Library, headers, and what find_package() and pkg-config read. The package can be moved: nothing holds its place.

include(CMakePackageConfigHelpers)

# ONNX Runtime's library comes along, unless a package of the system's has it.
if(LRP_EDGE_ONNXRUNTIME_INSTALLED)
  set(bring OFF)
else()
  set(bring ON)
endif()
option(LRP_EDGE_INSTALL_ONNXRUNTIME "Install ONNX Runtime's library next to lrp_edge's" ${bring})

file(RELATIVE_PATH LRP_EDGE_PC_PREFIX "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
get_filename_component(LRP_EDGE_ONNXRUNTIME_NAME "${ONNXRuntime_LIBRARY}" NAME)
if(NOT BUILD_SHARED_LIBS)
  set(LRP_EDGE_PC_CFLAGS " -DLRP_EDGE_STATIC")
  set(LRP_EDGE_PC_LIBS " -lonnxruntime -lstdc++ -lm")
  if(LRP_EDGE_HAS_TENSORRT)
    string(APPEND LRP_EDGE_PC_LIBS " ${TensorRT_LIBRARY} ${CUDA_cudart_LIBRARY} ${OPENSSL_CRYPTO_LIBRARY}")
  endif()
endif()

if(UNIX AND NOT APPLE)
  set(rpath "$ORIGIN" ${LRP_EDGE_TENSORRT_FOLDER})
  set_target_properties(lrp_edge PROPERTIES INSTALL_RPATH "${rpath}")
endif()

install(TARGETS lrp_edge EXPORT lrp_edgeTargets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(LRP_EDGE_INSTALL_ONNXRUNTIME)
  get_filename_component(folder "${ONNXRuntime_LIBRARY}" DIRECTORY)
  install(DIRECTORY "${folder}/" DESTINATION ${CMAKE_INSTALL_LIBDIR} FILES_MATCHING PATTERN "libonnxruntime*.so*"
          PATTERN "onnxruntime*.lib")
  install(DIRECTORY "${folder}/" DESTINATION ${CMAKE_INSTALL_BINDIR} FILES_MATCHING PATTERN "onnxruntime*.dll")
endif()

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/lrp_edge)
install(EXPORT lrp_edgeTargets NAMESPACE lrp_edge:: DESTINATION ${package})
configure_package_config_file(cmake/lrp_edgeConfig.cmake.in lrp_edgeConfig.cmake INSTALL_DESTINATION ${package}
                              PATH_VARS CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file(lrp_edgeConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/lrp_edgeConfig.cmake"
              "${CMAKE_CURRENT_BINARY_DIR}/lrp_edgeConfigVersion.cmake" cmake/FindONNXRuntime.cmake
        DESTINATION ${package})

configure_file(cmake/lrp_edge.pc.in lrp_edge.pc @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/lrp_edge.pc" DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# Warnings and sanitizers of everything that is built here.

option(LRP_EDGE_WERROR "Take warnings for errors" OFF)
set(LRP_EDGE_SANITIZE "" CACHE STRING "Sanitizers by comma, as -fsanitize= takes them")

add_library(lrp_edge_options INTERFACE)
if(MSVC)
  target_compile_options(lrp_edge_options INTERFACE /W4 /utf-8 $<$<BOOL:${LRP_EDGE_WERROR}>:/WX>)
else()
  target_compile_options(lrp_edge_options INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow
                                                    $<$<BOOL:${LRP_EDGE_WERROR}>:-Werror>)
endif()
if(LRP_EDGE_SANITIZE)
  set(flags -fsanitize=${LRP_EDGE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  # Reports need functions and lines; to trace variables too takes GCC twice as long.
  set(CMAKE_C_FLAGS_SANITIZE "-O1 -g1")
  set(CMAKE_CXX_FLAGS_SANITIZE "-O1 -g1")
  target_compile_options(lrp_edge_options INTERFACE ${flags})
  target_link_options(lrp_edge_options INTERFACE ${flags})
endif()

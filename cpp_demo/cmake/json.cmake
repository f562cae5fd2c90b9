# nlohmann-json, installed or downloaded; headers alone, and nothing of them in lrp_edge's own.

find_package(nlohmann_json 3.9 QUIET)
if(NOT nlohmann_json_FOUND AND LRP_EDGE_FETCH)
  include(FetchContent)
  FetchContent_Declare(json URL https://github.com/nlohmann/json/releases/download/v3.11.3/json.tar.xz
                            URL_HASH SHA256=d6c65aca6b1ed68e7a182f4757257b107ae403032760ed6ef121c9d55e81757d)
  set(JSON_Install OFF CACHE INTERNAL "")
  FetchContent_MakeAvailable(json)
endif()
if(NOT TARGET nlohmann_json::nlohmann_json)
  message(FATAL_ERROR "nlohmann-json is not installed; install it (Debian: nlohmann-json3-dev)")
endif()

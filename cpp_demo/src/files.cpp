#include "files.hpp"

#include <lrp_edge/error.hpp>

#include <fstream>
#include <system_error>

namespace lrp_edge {

namespace fs = std::filesystem;

fs::path normal_path(const fs::path& path) {
  fs::path result;
  for (const auto& part : path) {
    if (!part.empty() && part != ".") result /= part;
  }
  return result.empty() ? fs::path(".") : result;
}

std::string path_text(const fs::path& path) {
  return path.u8string();
}

void require_file(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) throw Error("no model at " + path_text(path));
}

fs::path side_file(const fs::path& path) {
  return fs::path(path).replace_extension(".json");
}

std::string read_file(const fs::path& path) {
  std::error_code failed;
  const auto size = fs::file_size(path, failed);
  std::string bytes(failed ? 0 : static_cast<std::size_t>(size), '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (failed || !file) throw Error(path_text(path) + " cannot be read; check its permissions");
  return bytes;
}

}  // namespace lrp_edge

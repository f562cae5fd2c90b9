/// @file
/// An engine file and the card next to it, checked before anything of the engine is run.
#ifndef LRP_EDGE_SRC_TENSORRT_ENGINE_FILE_HPP
#define LRP_EDGE_SRC_TENSORRT_ENGINE_FILE_HPP

#include <lrp_edge/card.hpp>

#include <array>
#include <cstddef>
#include <filesystem>
#include <string>

namespace lrp_edge::tensorrt {

/// Shape of the frames of one call, [N, H, W, C].
using FramesShape = std::array<std::size_t, 4>;

/// An engine file that is what its card says, before anything of it is run.
class EngineFile {
 public:
  /// Read an engine and its card.
  /// @throws Error If there is no such file, no card next to it, or the file is not the one that the card was written
  ///   for.
  static EngineFile read(const std::filesystem::path& path);

  /// The path in UTF-8, for an error.
  const std::string& name() const noexcept { return name_; }

  /// From `<name>.json` next to the file.
  const Card& card() const noexcept { return card_; }

  /// The very bytes that were compared with the card: an engine is code. Empty once they were dropped.
  const std::string& data() const noexcept { return data_; }

  /// Free the bytes, which nobody needs once the engine is loaded.
  void drop_data() noexcept { std::string().swap(data_); }

  /// The largest frames that it takes.
  FramesShape largest() const noexcept;

  /// The command that compiles it again, for one more GPU if that is given.
  std::string rebuild(const std::string& gpu = {}) const;

  /// Whether it was built for a compute capability, e.g. "sm86".
  bool runs_on(const std::string& gpu) const;

  /// Whether it was built with a version of its product, or so that others may try.
  /// @param version All numbers of it; the card may have fewer, as a Jetson's Python gives them.
  bool runs_with(const std::string& version) const;

  /// Whether it was built with an option of `lrp-edge compile`.
  bool has_option(const std::string& option) const;

  /// Compare frames with the profile that the engine was compiled for.
  /// @throws Error If there are too few or too many, or they are too small or too large.
  void check_frames(const FramesShape& frames) const;

 private:
  EngineFile(std::string name, std::string data, Card card);
  void check(const std::string& side) const;

  std::string name_;
  std::string data_;
  Card card_;
};

/// What a product is called: "TensorRT-RTX" for "rtx", "TensorRT" for "tensorrt"; null for anything else.
const char* product_title(const std::string& product) noexcept;

}  // namespace lrp_edge::tensorrt

#endif

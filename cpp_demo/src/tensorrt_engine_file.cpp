#include "tensorrt_engine_file.hpp"

#include "files.hpp"
#include "text.hpp"

#include <lrp_edge/error.hpp>

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <utility>

namespace lrp_edge::tensorrt {
namespace {

constexpr int kAmpere = 80;
constexpr std::size_t kShownDigits = 12;

std::string hex_sha256(const std::string& data) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  if (EVP_Digest(data.data(), data.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1) {
    throw Error("OpenSSL cannot compute a SHA-256; check its installation");
  }
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (unsigned int i = 0; i < size; ++i) {
    text += kDigits[digest[i] >> 4];
    text += kDigits[digest[i] & 15];
  }
  return text;
}

/// A word as a shell takes it.
std::string shell_word(const std::string& word) {
  constexpr char kSafe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";
  if (!word.empty() && word.find_first_not_of(kSafe) == std::string::npos) return word;
  std::string text = "'";
  for (const char letter : word) {
    text += letter == '\'' ? "'\"'\"'" : std::string(1, letter);
  }
  return text + "'";
}

std::string span(const std::string& low, const std::string& high) {
  return low == high ? low : low + " to " + high;
}

std::string size_text(const std::array<std::size_t, 3>& shape) {
  return std::to_string(shape[1]) + "x" + std::to_string(shape[2]);
}

}  // namespace

const char* product_title(const std::string& product) noexcept {
  return product == "rtx" ? "TensorRT-RTX" : product == "tensorrt" ? "TensorRT" : nullptr;
}

EngineFile::EngineFile(std::string name, std::string data, Card card)
    : name_(std::move(name)), data_(std::move(data)), card_(std::move(card)) {}

EngineFile EngineFile::read(const std::filesystem::path& path) {
  require_file(path);
  const std::filesystem::path side = side_file(path);
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(side, ignored)) {
    throw Error(path_text(path) + " has no model card next to it (" + path_text(side.filename()) +
                "); copy both, or compile again: lrp-edge compile MODEL.onnx");
  }
  Card card = Card::from_json(read_file(side), path_text(side));
  EngineFile file(path_text(path), read_file(path), std::move(card));
  file.check(path_text(side));
  return file;
}

void EngineFile::check(const std::string& side) const {
  const EngineFacts& facts = card_.engine;
  const std::pair<const char*, bool> wanted[] = {{"product", !facts.product.empty()},
                                                 {"version", !facts.version.empty()},
                                                 {"engine_sha256", !facts.engine_sha256.empty()},
                                                 {"profile", card_.profile.has_value()}};
  for (const auto& [fact, there] : wanted) {
    if (!there) throw Error(side + ": the card has no " + fact + " of an engine; compile again: " + rebuild());
  }
  if (product_title(facts.product) == nullptr) {
    throw Error(side + ": engine of " + lrp_edge::in_quotes(facts.product) + "; expected one of rtx, tensorrt");
  }
  const std::string found = hex_sha256(data_);
  if (found != facts.engine_sha256) {
    const std::string ellipsis = "\xe2\x80\xa6";
    throw Error(name_ + " was altered or cut short: its SHA-256 is " + found.substr(0, kShownDigits) + ellipsis +
                ", the card's " + facts.engine_sha256.substr(0, kShownDigits) + ellipsis +
                "; copy it again, or compile again: " + rebuild());
  }
}

FramesShape EngineFile::largest() const noexcept {
  const auto& [frames, height, width] = card_.profile->max;
  return {frames, height, width, card_.input.channels()};
}

std::string EngineFile::rebuild(const std::string& gpu) const {
  const EngineFacts& facts = card_.engine;
  const std::string product = facts.product.empty() ? "rtx" : facts.product;
  std::vector<std::string> gpus = product == "rtx" ? facts.gpus : std::vector<std::string>{};
  if (product == "rtx" && !gpu.empty() && !contains(gpus, gpu)) {
    gpus.push_back(gpu);
  }
  const std::string target = gpus.empty() ? product : product + ":" + joined(gpus, ",");
  std::vector<std::string> words{"lrp-edge", "compile", facts.model.empty() ? "MODEL.onnx" : facts.model, "--for",
                                 target};
  words.insert(words.end(), facts.options.begin(), facts.options.end());
  std::transform(words.begin(), words.end(), words.begin(), shell_word);
  return joined(words, " ");
}

bool EngineFile::runs_on(const std::string& gpu) const {
  const std::vector<std::string>& gpus = card_.engine.gpus;
  const bool later = has_option("ampere_plus") && std::stoi(gpu.substr(2)) >= kAmpere;
  return gpus.empty() || contains(gpus, gpu) || later;
}

bool EngineFile::runs_with(const std::string& version) const {
  const std::string& built = card_.engine.version;
  const std::string known = built.substr(0, built.find_first_not_of("0123456789."));
  const std::string numbers = known == built ? built + "." : known;
  const bool same = !known.empty() && (version + ".").compare(0, numbers.size(), numbers) == 0;
  return same || has_option("--version-compatible");
}

bool EngineFile::has_option(const std::string& option) const {
  return contains(card_.engine.options, option);
}

void EngineFile::check_frames(const FramesShape& frames) const {
  const auto& [low, usual, high] = *card_.profile;
  bool inside = frames.back() == card_.input.channels();
  for (std::size_t axis = 0; axis < low.size(); ++axis) {
    inside = inside && low[axis] <= frames[axis] && frames[axis] <= high[axis];
  }
  if (inside) return;
  throw Error(
      name_ + ": frames " + shape_text({frames.begin(), frames.end()}) + " are outside its profile of " +
      span(std::to_string(low[0]), std::to_string(high[0])) + " frames of " + span(size_text(low), size_text(high)) +
      " with " + std::to_string(card_.input.channels()) +
      " channels; compile again with another --batch, or other --smallest, --usual and --largest: " + rebuild());
}

}  // namespace lrp_edge::tensorrt

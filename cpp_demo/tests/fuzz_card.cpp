/// libFuzzer: any bytes as a model card. They are read, or refused with one line.

#include <lrp_edge/card.hpp>
#include <lrp_edge/error.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const lrp_edge::Card card = lrp_edge::Card::from_json(text);
    if (card.classes.size() < 2 || card.input.channels() == 0 || card.json != text) std::abort();
  } catch (const lrp_edge::Error& error) {
    const std::string_view said = error.what();
    if (said.empty() || said.find('\n') != std::string_view::npos) std::abort();
  }
  return 0;
}

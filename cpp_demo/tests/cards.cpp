/// lrp_edge_cards FILE: reads cards, each behind its length in bytes (uint32), and says of each how many classes it has,
/// or what is wrong with it, with its line ends escaped.

#include <lrp_edge/card.hpp>
#include <lrp_edge/error.hpp>

#include <cstdint>
#include <fstream>
#include <iostream>
#include <string>

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  std::ifstream file(argv[1], std::ios::binary);
  for (std::uint32_t size = 0; file.read(reinterpret_cast<char*>(&size), sizeof(size));) {
    std::string text(size, '\0');
    file.read(text.data(), size);
    try {
      std::cout << lrp_edge::Card::from_json(text, "card").classes.size() << " classes\n";
    } catch (const lrp_edge::Error& error) {
      for (const char sign : std::string(error.what())) std::cout << (sign == '\n' ? "\\n" : std::string(1, sign));
      std::cout << "\n";
    }
  }
  return 0;
}
